select * from private.get_standing($1, $2, $3)
