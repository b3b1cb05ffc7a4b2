-- A right password after too many wrong ones has to wait, as at login. (A join would call the function all the same.)
with delay as materialized (
  select private.pass_login($4, $5) as refusal
)
select case when refusal is null then private.change_password($1, $2, $3) end as ended, refusal
  from delay
