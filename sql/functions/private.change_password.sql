create or replace function private.change_password(
  caller jsonb, old_hash text, new_hash text, out ended bigint
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := private.enter(caller);
begin
  update private.credentials
     set password_hash = new_hash, updated_at = private.clock()
   where user_id = me
     and password_hash = old_hash;
  -- The hash was changed after the service compared it, so the service has to compare again.
  if not found then
    return;
  end if;
  ended := private.end_sign_ins(me, (caller ->> 'session_id')::uuid, 'password_changed');
  insert into private.audit_log (action, actor_id, user_id)
  values ('user.password_changed', me, me);
end
$$;

comment on function private.change_password(jsonb, text, text) is
  'Replaces the caller''s password hash and ends the caller''s other sign-ins. Returns how many it ended, or null if the stored hash is not the old one.';
revoke all on function private.change_password(jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function private.change_password(jsonb, text, text) to speedcoding_api;
alter function private.change_password(jsonb, text, text) owner to speedcoding_writer;
