select private.update_submission($1, $2, $3, $4, $5, $6) as submission
