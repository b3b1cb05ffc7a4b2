-- Calls a function in PL/pgSQL, as every request does, and asks whether the database is read-only.
select current_setting('transaction_read_only')::boolean as read_only from private.clock()
