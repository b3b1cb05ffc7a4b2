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
  -- A hundred an hour of each account, and of all unknown names together: nobody can fill the log by
  -- failing. (Failures at the same moment do not see each other.)
  insert into private.audit_log (action, user_id)
  select 'sign_in.failed', $3
    from outcome
   where refusal is null
     and 100 > (
       select count(*)
         from (
           select from private.audit_log
            where action = 'sign_in.failed'
              and (user_id = $3 or user_id is null and $3 is null)
              and happened_at > (select private.clock()) - interval '1 hour'
            limit 100
         ) as noted
     )
)
select refusal, refusal is null as recorded
  from outcome
