-- A user uses a network if one of the user's sign-ins was opened from it.
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
  -- At most a hundred an hour for each account, and for all unknown names together, so that nobody can fill the log.
  -- (Failures at the same moment do not count each other.)
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
