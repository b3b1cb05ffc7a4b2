-- No row if the sign-in has ended or its user is banned. Then `admit` refuses, and says which.
select sign_in.id
  from private.refresh_tokens as sign_in
  join private.credentials as credential
    on credential.user_id = sign_in.user_id
   and sign_in.epoch = credential.sign_in_epoch
 where sign_in.id = $1
   and sign_in.user_id = $2
   and sign_in.live_until > private.clock()
   and not exists (select from public.bans where user_id = sign_in.user_id)
