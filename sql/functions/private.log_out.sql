-- A token of any generation may end its sign-in, because that is always safe. A sign-in that has ended cannot end others.
create or replace function private.log_out(sign_in uuid, signed_by bytea, nonce bytea, scope text) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  account uuid;
begin
  select user_id
    into account
    from private.refresh_tokens
   where id = sign_in
     and key_id = signed_by
     and nonce_digest = nonce;
  if scope <> 'local' then
    perform from private.credentials where user_id = account for no key update;
  end if;
  -- Checked after the lock: of two devices that log each other out, the first one wins.
  perform
     from private.refresh_tokens as token
     join private.credentials as credential
       on credential.user_id = token.user_id
      and token.epoch = credential.sign_in_epoch
    where token.id = sign_in
      and token.user_id = account
      and token.live_until > private.clock();
  if not found then
    return 0;
  end if;
  if scope <> 'local' then
    return private.end_sign_ins(account, case scope when 'others' then sign_in end, 'logout');
  end if;
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = 'logout'
   where id = sign_in
     and live_until > private.clock();
  return found::integer;
end
$$;

comment on function private.log_out(uuid, bytea, bytea, text) is
  'Ends the sign-in of a refresh token (local), all others of its user (others), or all (global). Returns how many it marked as ended.';
revoke all on function private.log_out(uuid, bytea, bytea, text) from public, anon, authenticated, service_role;
grant execute on function private.log_out(uuid, bytea, bytea, text) to speedcoding_api;
