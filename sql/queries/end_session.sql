select * from private.end_session($1, $2, $3, $4)
