-- Asked only where `refresh` found nothing to redeem: why. Whoever knows the nonce had a token of this sign-in;
-- one whose turn is over was copied, one whose turn has not come is from before a backup was restored: it ends.
with ended as (
  update private.refresh_tokens
     set revoked_at = private.clock(),
         revoked_reason = case when generation > $4 then 'reuse' else 'rollback' end
   where id = $1
     and key_id = $2
     and nonce_digest = $3
     and generation <> $4
     and not (generation = $4 + 1 and rotated_at > private.clock() - $5 * interval '1 second')
     and live_until > private.clock()
  returning revoked_reason
)
select revoked_reason as cause
  from ended
 union all
select 'ban'
  from private.refresh_tokens as token
  join public.users as account on account.id = token.user_id
 where token.id = $1
   and token.nonce_digest = $3
   and token.live_until > private.clock()
   and account.banned_at is not null
   and not exists (select from ended)
