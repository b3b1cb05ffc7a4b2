select * from private.find_own_credentials($1)
