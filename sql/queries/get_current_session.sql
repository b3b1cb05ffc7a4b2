select * from private.get_current_session($1)
