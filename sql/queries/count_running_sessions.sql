-- What metrics ask, by the connection of readiness.
select current_setting('transaction_read_only')::boolean as read_only, private.count_running_sessions() as running
