-- A login calls it while it holds the lock on the account's row of private.credentials, so that the count is exact.
create or replace function private.bound_sign_ins(account uuid) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  ended bigint;
begin
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = 'too_many'
   where id in (
     select token.id
       from private.refresh_tokens as token
       join private.credentials as credential
         on credential.user_id = token.user_id
        and credential.sign_in_epoch = token.epoch
      where token.user_id = account
        and token.revoked_at is null
        and token.live_until > private.clock()
      order by token.created_at desc
     offset 99
      limit 100
   )
     and live_until > private.clock();
  get diagnostics ended = row_count;
  return ended;
end
$$;

comment on function private.bound_sign_ins(uuid) is
  'Ends the oldest living sign-ins of an account, so that there are a hundred with the next one. Returns how many it ended.';
revoke all on function private.bound_sign_ins(uuid) from public, anon, authenticated, service_role;
grant execute on function private.bound_sign_ins(uuid) to speedcoding_api;
