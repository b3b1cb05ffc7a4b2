-- After too many wrong passwords a client has to wait, whether or not there is such an account.
select account.id, account.username, account.role::text as role, account.created_at,
       exists (select from public.bans where user_id = account.id) as banned, credential.password_hash, delay.refusal,
       exists (
         select from private.refresh_tokens
          where user_id = account.id
            and ip <<= set_masklen($4, case family($4) when 4 then 32 else 64 end)
       ) as usual
  from (select private.login_delay($2, $3) as refusal) as delay
  left join (public.users as account
             join private.credentials as credential on credential.user_id = account.id)
    on lower(account.username) = lower($1 collate "C")
 where delay.refusal is not null
    or account.id is not null
