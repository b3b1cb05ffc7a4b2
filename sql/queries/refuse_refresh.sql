-- Says why `refresh` found nothing to redeem. A client that knows the nonce had a token of this sign-in. If the token is
-- an old one, somebody copied it. If it is newer than the row, a backup was restored. Both end the sign-in.
with ended as (
  update private.refresh_tokens as token
     set revoked_at = private.clock(),
         revoked_reason = case when token.generation > $4 then 'reuse' else 'rollback' end
    from private.credentials as credential
   where token.id = $1
     and token.key_id = $2
     and token.nonce_digest = $3
     and token.generation <> $4
     and not private.redeems_again(token, $4, $5, $6)
     and token.live_until > private.clock()
     and credential.user_id = token.user_id
     and token.epoch >= credential.sign_in_epoch
  returning revoked_reason
)
select revoked_reason as cause
  from ended
 union all
select case
         when token.revoked_at is not null or token.epoch < credential.sign_in_epoch then 'ended'
         when token.live_until <= private.clock() then 'expired'
         when exists (select from public.bans as ban where ban.user_id = token.user_id) then 'ban'
       end
  from private.refresh_tokens as token
  join private.credentials as credential on credential.user_id = token.user_id
 where token.id = $1
   and token.key_id = $2
   and token.nonce_digest = $3
   and not exists (select from ended)
