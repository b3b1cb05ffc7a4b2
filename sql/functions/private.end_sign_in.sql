create or replace function private.end_sign_in(caller jsonb, sign_in uuid, out ended boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := private.enter(caller);
begin
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = 'signed_out'
   where id = sign_in
     and user_id = me
     and revoked_at is null
     and epoch >= (select sign_in_epoch from private.credentials where user_id = me);
  ended := found;
  -- A repeated call answers as the first time.
  if not ended and not exists (select from private.refresh_tokens where id = sign_in and user_id = me) then
    perform private.refuse(404, 'sign_in_not_found', 'There is no such sign-in of yours: GET /auth/sign-ins lists them.');
  end if;
end
$$;

comment on function private.end_sign_in(jsonb, uuid) is
  'Ends one of the caller''s sign-ins. Returns whether it was alive until this call.';
revoke all on function private.end_sign_in(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.end_sign_in(jsonb, uuid) to speedcoding_api;
alter function private.end_sign_in(jsonb, uuid) owner to speedcoding_writer;
