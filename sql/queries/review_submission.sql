select private.review_submission($1, $2, $3, $4, $5) as submission
