select private.release_submission($1, $2) as submission
