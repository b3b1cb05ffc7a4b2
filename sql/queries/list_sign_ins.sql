select * from private.list_sign_ins($1, $2, $3)
