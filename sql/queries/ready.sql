-- A function in PL/pgSQL, as every request calls one, and whether changes are taken.
select current_setting('transaction_read_only')::boolean as read_only from private.clock()
