insert into private.refresh_tokens
  (id, user_id, nonce_digest, key_id, idle_expires_at, expires_at, user_agent, ip)
select $2, id, $3, $4, private.clock() + $5 * interval '1 second', private.clock() + $6 * interval '1 second', $7, $8
  from public.users
 where id = $1
   and banned_at is null
returning id
