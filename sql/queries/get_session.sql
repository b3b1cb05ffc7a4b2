select * from private.get_session($1, $2)
