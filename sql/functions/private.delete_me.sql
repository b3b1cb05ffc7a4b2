create or replace function private.delete_me(caller jsonb, out erased boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := (caller ->> 'sub')::uuid;
begin
  erased := false;
  -- Starts of the user come before or after: start_session() takes the same lock, and then enters.
  perform pg_advisory_xact_lock(hashtextextended(me::text, 0));
  if not exists (select from public.users where id = me and erased_at is null) then
    return;
  end if;
  perform private.enter(caller);

  -- First what a login locks first.
  delete from private.credentials where user_id = me;
  perform from private.refresh_tokens where user_id = me order by id for update;
  delete from private.refresh_tokens where user_id = me;
  -- What a moderator has taken, others may take.
  update public.submissions set claimed_by = null where claimed_by = me and status = 'PENDING';
  -- A review locks the submission, then the session.
  delete from public.submissions where user_id = me and status <> 'APPROVED';
  delete from public.sessions where user_id = me and not published;

  insert into private.audit_log (action, actor_id, user_id)
  values ('user.erased', me, me);
  -- Approved runs stay where they are on the boards, under a name that says nothing.
  if exists (select from public.sessions where user_id = me) then
    update public.users
       set username = 'erased-' || left(replace(gen_random_uuid()::text, '-', ''), 12),
           role = 'runner', erased_at = private.clock()
     where id = me;
  else
    delete from public.users where id = me;
  end if;
  erased := true;
end
$$;

comment on function private.delete_me(jsonb) is
  'Erases the caller''s account: all of it, or all but approved runs under an anonymous name. False: it was erased before.';
revoke all on function private.delete_me(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.delete_me(jsonb) to speedcoding_api;
alter function private.delete_me(jsonb) owner to speedcoding_writer;
