select private.claim_submission($1, $2) as submission
