select private.reopen_submission($1, $2, $3) as submission
