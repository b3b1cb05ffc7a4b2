select * from private.admit($1)
