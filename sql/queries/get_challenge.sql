select * from private.get_challenge($1, $2)
