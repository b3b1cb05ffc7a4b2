select * from private.list_challenges($1, $2, $3)
