-- After too many wrong passwords the right one has to wait, too, as at login. (A join instead of the `case` would call
-- the function in any case.)
with delay as materialized (
  select private.pass_login($4, $5) as refusal
)
select case when refusal is null then private.change_password($1, $2, $3) end as ended, refusal
  from delay
