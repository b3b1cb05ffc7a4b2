-- One batch in the order of ids, so that each statement is short. It reads a number of rows from an id on, removes
-- those that ended long ago, marks those of an earlier epoch as ended, and returns the last id. Only one replica sweeps
-- at a time; the others get no row.
with batch as materialized (
  select id
    from private.refresh_tokens
   where id > $1
     and (select pg_try_advisory_xact_lock(hashtextextended('speedcoding.sweep_sign_ins', 0)))
   order by id
   limit $2
), dead as materialized (
  select token.id
    from private.refresh_tokens as token
    join batch on batch.id = token.id
   where least(token.idle_expires_at, token.expires_at, token.revoked_at) < private.clock() - $3 * interval '1 second'
     for update of token skip locked
), swept as (
  delete from private.refresh_tokens
   where id in (select id from dead)
  returning id
), outdated as materialized (
  select token.id
    from private.refresh_tokens as token
    join batch on batch.id = token.id
    join private.credentials as credential on credential.user_id = token.user_id
   where token.live_until > private.clock()
     and token.epoch < credential.sign_in_epoch
     for update of token skip locked
), ended as (
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = 'outdated'
   where id in (select id from outdated)
  returning id
)
select id, (select count(*) from swept) as swept, (select count(*) from ended) as ended
  from batch
 order by id desc
 limit 1
