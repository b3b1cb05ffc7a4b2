-- A right password after too many wrong ones has to wait, as at login. (A join would call the function all the same.)
with delay as materialized (
  select private.pass_login($3, $4) as refusal
)
select case when refusal is null then private.delete_me($1, $2, $3) end as erased, refusal
  from delay
