select private.login_delay($1, $2) as refusal
