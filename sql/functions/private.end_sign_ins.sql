-- Raises the epoch of the account. That one write ends every sign-in but the kept one, and every login that has compared
-- the old password. Up to a hundred sign-ins, as many as an account may have, are also marked as ended. If there are
-- more, the sweep marks the rest. Call this with the row of private.credentials locked: logins and other ends of several
-- sign-ins wait for that lock.
create or replace function private.end_sign_ins(account uuid, kept uuid, cause text) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  now_epoch integer;
  ended bigint;
begin
  update private.credentials
     set sign_in_epoch = sign_in_epoch + 1
   where user_id = account
  returning sign_in_epoch into now_epoch;
  update private.refresh_tokens
     set epoch = now_epoch
   where id = kept
     and user_id = account
     and epoch = now_epoch - 1;
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = cause
   where id in (
     select id
       from private.refresh_tokens
      where user_id = account
        and epoch = now_epoch - 1
        and revoked_at is null
        and live_until > private.clock()
      order by created_at desc
      limit 100
   )
     and live_until > private.clock();
  get diagnostics ended = row_count;
  return ended;
end
$$;

comment on function private.end_sign_ins(uuid, uuid, text) is
  'Ends all living sign-ins of an account but the kept one. Returns how many it marked as ended.';
revoke all on function private.end_sign_ins(uuid, uuid, text) from public, anon, authenticated, service_role;
grant execute on function private.end_sign_ins(uuid, uuid, text) to speedcoding_api, speedcoding_writer;
