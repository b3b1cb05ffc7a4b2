create or replace function private.delete_me(
  caller jsonb, old_hash text default null, account_digest bytea default null, out erased boolean
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := (caller ->> 'sub')::uuid;
begin
  -- start_session() takes the same lock, so a start by this user comes either before or after this.
  perform pg_advisory_xact_lock(hashtextextended(me::text, 0));
  if not exists (select from public.users where id = me and erased_at is null) then
    erased := false;
    return;
  end if;
  perform private.enter(caller);

  -- A login takes this lock first, too. A replica of an older version sends no hash.
  delete from private.credentials where user_id = me and password_hash = coalesce(old_hash, password_hash);
  -- The hash was changed after the service compared it, so the service has to compare again.
  if not found then
    return;
  end if;
  perform from private.refresh_tokens where user_id = me order by id for update;
  delete from private.refresh_tokens where user_id = me;
  -- Other moderators may claim what this one had claimed.
  update public.submissions set claimed_by = null where claimed_by = me and status = 'PENDING';
  -- In the order of a review: the submission, then the session.
  delete from public.submissions where user_id = me and status <> 'APPROVED';
  delete from public.sessions where user_id = me and not published;
  -- Rows that are being changed at this moment expire by themselves later. Nothing waits for them.
  delete from private.failed_logins
   where (account, network) in (
     select account, network from private.failed_logins where account = account_digest for update skip locked
   );

  insert into private.audit_log (action, actor_id, user_id)
  values ('user.erased', me, me);
  -- Approved runs keep their places on the boards, under an anonymous name.
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

comment on function private.delete_me(jsonb, text, bytea) is
  'Erases the caller''s account. Approved runs stay, under an anonymous name. Returns false if it was erased before, and null if the stored hash is not the given one.';
revoke all on function private.delete_me(jsonb, text, bytea) from public, anon, authenticated, service_role;
grant execute on function private.delete_me(jsonb, text, bytea) to speedcoding_api;
alter function private.delete_me(jsonb, text, bytea) owner to speedcoding_writer;
