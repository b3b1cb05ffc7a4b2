select private.get_submission($1, $2) as submission
