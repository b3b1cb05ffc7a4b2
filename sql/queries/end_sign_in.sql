select * from private.end_sign_in($1, $2)
