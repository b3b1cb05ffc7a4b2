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
  -- A statement of its own: a login that held the row above has opened its sign-in by now. All are locked in the order
  -- of their ids, and then ended by what they are: a join would go through all of them for each, where PostgreSQL
  -- expects few.
  perform from private.refresh_tokens where user_id = me order by id for update;
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = 'password_changed'
   where user_id = me
     and id <> (caller ->> 'session_id')::uuid
     and live_until > private.clock();
  get diagnostics ended = row_count;
  insert into private.audit_log (action, actor_id, user_id)
  values ('user.password_changed', me, me);
end
$$;

comment on function private.change_password(jsonb, text, text) is
  'Sets the caller''s password hash in place of the old one and ends the caller''s other sign-ins: how many. Null where the old one is another.';
revoke all on function private.change_password(jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function private.change_password(jsonb, text, text) to speedcoding_api;
alter function private.change_password(jsonb, text, text) owner to speedcoding_writer;
