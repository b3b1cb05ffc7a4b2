-- The epoch of the account decides: with one row written, every sign-in but the one that is kept is over, however many
-- there are, and so is every login that has compared the old password. As many as an account may have are ended by name
-- at once; where there are more, the sweep ends them in its turn. Call it with the row of private.credentials locked:
-- whoever opens sign-ins, or ends several, waits there and nowhere else.
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
  'Ends all living sign-ins of an account but the one that is kept: how many were ended by name.';
revoke all on function private.end_sign_ins(uuid, uuid, text) from public, anon, authenticated, service_role;
grant execute on function private.end_sign_ins(uuid, uuid, text) to speedcoding_api, speedcoding_writer;
