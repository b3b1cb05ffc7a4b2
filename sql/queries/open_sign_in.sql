with delay as materialized (
  select private.pass_login($11, $12) as refusal
), account as (
  -- If the password was changed since it was compared, the old one must sign nobody in.
  select credential.user_id as id
    from delay,
         private.credentials as credential
   where delay.refusal is null
     and credential.user_id = $1
     and credential.password_hash = $9
     and not exists (select from public.bans as ban where ban.user_id = credential.user_id)
     for no key update of credential
), rehashed as (
  update private.credentials
     set password_hash = $10, updated_at = private.clock()
    from account
   where user_id = account.id
     and $10::text is not null
), bounded as materialized (
  select id, private.bound_sign_ins(id) as ended
    from account
), opened as (
  insert into private.refresh_tokens
    (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at, user_agent, ip)
  select $2, id, $3, $4, private.clock() + $5 * interval '1 second', private.clock() + $6 * interval '1 second', $7, $8
    from bounded
  returning id, user_id
), audited as (
  insert into private.audit_log (action, actor_id, user_id, subject_id)
  select 'sign_in.opened', user_id, user_id, id
    from opened
)
select opened.id, delay.refusal, coalesce((select ended from bounded), 0) as ended
  from delay
  left join opened on true
 where opened.id is not null
    or delay.refusal is not null
