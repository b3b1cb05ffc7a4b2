-- One UPDATE, so that whoever waited for the row is judged by the row as it is then. A hit rotates; for a while
-- after that the token just redeemed has the same successor once more, and how long does not change by asking.
update private.refresh_tokens as token
   set generation = $4 + 1,
       rotated_at = case when token.generation = $4 then private.clock() else token.rotated_at end,
       idle_expires_at = case when token.generation = $4 then private.clock() + $6 * interval '1 second'
                              else token.idle_expires_at end
  from public.users as account
 where token.id = $1
   and token.key_id = $2
   and token.nonce_digest = $3
   and (token.generation = $4
     or token.generation = $4 + 1 and token.rotated_at > private.clock() - $5 * interval '1 second')
   and token.live_until > private.clock()
   and account.id = token.user_id
   and account.banned_at is null
returning account.id, account.username, account.role::text as role, account.created_at,
          extract(epoch from token.created_at)::bigint as signed_in_at
