select * from private.verify_milestone($1, $2, $3, $4)
