-- A token of any generation will do: to end a sign-in is always safe. Rows are locked in the order of their ids,
-- so that two logouts at once do not wait for each other; and a sign-in that another has ended ends no others.
with presented as (
  select id, user_id
    from private.refresh_tokens
   where id = $1
     and key_id = $2
     and nonce_digest = $3
     and live_until > private.clock()
), living as materialized (
  select token.id
    from private.refresh_tokens as token
    join presented on presented.user_id = token.user_id
   where token.revoked_at is null
     and ($4 <> 'local' or token.id = presented.id)
   order by token.id
     for update of token
), ended as (
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = 'logout'
   where id in (select id from living)
     and exists (select from living where id = $1)
     and ($4 <> 'others' or id <> $1)
     and revoked_at is null
  returning id
)
select count(*) as ended
  from ended
