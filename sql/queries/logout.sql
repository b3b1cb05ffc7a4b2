select private.log_out($1, $2, $3, $4) as ended
