select * from private.list_sessions($1, $2, $3)
