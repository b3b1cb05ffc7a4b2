select * from private.get_leaderboard($1, $2, $3, $4, $5, $6, $7, $8)
