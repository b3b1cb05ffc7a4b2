select * from private.start_session($1, $2, $3)
