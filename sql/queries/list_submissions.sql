select private.list_submissions($1, $2, $3, $4, $5, $6, $7) as submission
