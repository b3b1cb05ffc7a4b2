with account as (
  insert into public.users (username)
  values ($1)
  returning id, username, role::text as role, created_at
), credential as (
  insert into private.credentials (user_id, password_hash)
  select id, $2 from account
), sign_in as (
  insert into private.refresh_tokens
    (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at, user_agent, ip)
  select $3, id, $4, $5, private.clock() + $6 * interval '1 second', private.clock() + $7 * interval '1 second', $8, $9
    from account
  returning id, user_id
), audited as (
  insert into private.audit_log (action, actor_id, user_id, subject_id)
  select 'sign_in.opened', user_id, user_id, id
    from sign_in
)
select id, username, role, created_at
  from account
