-- One UPDATE, so that whoever waited for the row is judged by the row as it is then. A hit rotates; a token that was
-- redeemed before and counts again changes nothing, but that an answer given up for lost is remembered. Both have the
-- newest token. (A row that was waited for may be of a later epoch than the account was when the statement began: it was
-- kept by who ended the others.) RETURNING shows the row as it has become; what became of it is told past it, and told
-- again where the row was waited for.
update private.refresh_tokens as token
   set generation = greatest(token.generation, $4 + 1),
       rotated_at = case when set_config('speedcoding.rotated', (token.generation = $4)::text, true)::boolean
                         then private.clock() else token.rotated_at end,
       earlier_rotations = case when token.generation = $4 then (token.rotated_at || token.earlier_rotations)[:7]
                                else token.earlier_rotations end,
       idle_expires_at = case when token.generation = $4 then private.clock() + $6 * interval '1 second'
                              else token.idle_expires_at end,
       forgiven_generation = case when token.generation = $4 + 1
                                   and token.rotated_at <= private.clock() - $5 * interval '1 second' then $4
                                  else token.forgiven_generation end
  from private.credentials as credential
  join public.users as account on account.id = credential.user_id
 where token.id = $1
   and token.key_id = $2
   and token.nonce_digest = $3
   and (token.generation = $4 or private.redeems_again(token, $4, $5, $7))
   and token.live_until > private.clock()
   and credential.user_id = token.user_id
   and token.epoch >= credential.sign_in_epoch
   and account.banned_at is null
returning account.id, account.username, account.role::text as role, account.created_at,
          extract(epoch from token.created_at)::bigint as signed_in_at, token.generation,
          current_setting('speedcoding.rotated')::boolean as rotated
