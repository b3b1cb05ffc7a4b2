select * from private.abandon_session($1, $2)
