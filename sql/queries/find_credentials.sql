select account.id, account.username, account.role::text as role, account.created_at,
       account.banned_at is not null as banned, credential.password_hash
  from public.users as account
  join private.credentials as credential on credential.user_id = account.id
 where lower(account.username) = lower($1 collate "C")
