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
  -- Changed since it was compared: it has to be compared again.
  if not found then
    return;
  end if;
  ended := private.end_sign_ins(me, (caller ->> 'session_id')::uuid, 'password_changed');
  insert into private.audit_log (action, actor_id, user_id)
  values ('user.password_changed', me, me);
end
$$;

comment on function private.change_password(jsonb, text, text) is
  'Sets the caller''s password hash in place of the old one and ends the caller''s other sign-ins: how many. Null where the old one is another.';
revoke all on function private.change_password(jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function private.change_password(jsonb, text, text) to speedcoding_api;
alter function private.change_password(jsonb, text, text) owner to speedcoding_writer;
