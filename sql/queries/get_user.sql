select * from private.get_user($1, $2)
