select * from private.delete_me($1)
