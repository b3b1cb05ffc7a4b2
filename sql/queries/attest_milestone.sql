select * from private.attest_milestone($1, $2, $3, $4, $5, $6)
