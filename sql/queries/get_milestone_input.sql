select * from private.get_milestone_input($1, $2, $3)
