-- A network is a usual one of the user where a sign-in was opened from it.
with outcome as materialized (
  select private.fail_login(
    $1, $2,
    exists (
      select from private.refresh_tokens
       where user_id = $3
         and ip <<= set_masklen($4, case family($4) when 4 then 32 else 64 end)
    ),
    $5, $6
  ) as refusal
), audited as (
  insert into private.audit_log (action, user_id)
  select 'sign_in.failed', $3
    from outcome
   where refusal is null
     and $7
)
select refusal, refusal is null as recorded
  from outcome
