select * from private.get_me($1)
