select * from private.change_password($1, $2, $3)
