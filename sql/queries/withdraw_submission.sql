select private.withdraw_submission($1, $2)
