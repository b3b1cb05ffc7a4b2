-- One UPDATE, so that a request that waited for the row is judged by the row's new state. The current token is replaced
-- by the next one. A token that was redeemed before, and is answered once more, changes only forgiven_generation. Both
-- answers are the newest token. (After the wait, the row's epoch may be later than the account's at the beginning of the
-- statement: another request kept this sign-in and ended the others.)
-- RETURNING shows the row after the change. So whether the token was redeemed now is told by a setting, which is set again
-- if the statement waited for the row.
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
   and not exists (select from public.bans as ban where ban.user_id = account.id)
returning account.id, account.username, account.role::text as role, account.created_at,
          extract(epoch from token.created_at)::bigint as signed_in_at, token.generation,
          current_setting('speedcoding.rotated')::boolean as rotated
