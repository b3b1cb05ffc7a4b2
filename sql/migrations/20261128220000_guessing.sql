-- Guessing leaves its traces, and whose guess was right a moment ago has no say any more.

-- So that the service can tell how many failures of the last hour are noted already, and nothing else.
create index audit_log_failures on private.audit_log (user_id, happened_at) where action = 'sign_in.failed';
create policy audit_log_failures on private.audit_log for select to speedcoding_api
  using (action = 'sign_in.failed');
grant select (action, user_id, happened_at) on private.audit_log to speedcoding_api;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer;

drop function private.delete_me(jsonb);

create or replace function private.delete_me(
  caller jsonb, old_hash text default null, account_digest bytea default null, out erased boolean
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := (caller ->> 'sub')::uuid;
begin
  -- Starts of the user come before or after: start_session() takes the same lock, and then enters.
  perform pg_advisory_xact_lock(hashtextextended(me::text, 0));
  if not exists (select from public.users where id = me and erased_at is null) then
    erased := false;
    return;
  end if;
  perform private.enter(caller);

  -- First what a login locks first. A replica of an older version gives no hash.
  delete from private.credentials where user_id = me and password_hash = coalesce(old_hash, password_hash);
  -- Changed since it was compared: it has to be compared again.
  if not found then
    return;
  end if;
  perform from private.refresh_tokens where user_id = me order by id for update;
  delete from private.refresh_tokens where user_id = me;
  -- What a moderator has taken, others may take.
  update public.submissions set claimed_by = null where claimed_by = me and status = 'PENDING';
  -- A review locks the submission, then the session.
  delete from public.submissions where user_id = me and status <> 'APPROVED';
  delete from public.sessions where user_id = me and not published;
  -- What somebody is counting at this moment is forgotten in its time: nobody waits for it.
  delete from private.failed_logins
   where (account, network) in (
     select account, network from private.failed_logins where account = account_digest for update skip locked
   );

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

comment on function private.delete_me(jsonb, text, bytea) is
  'Erases the caller''s account: all of it, or all but approved runs under an anonymous name. False: it was erased before; null: the hash is not the old one.';
revoke all on function private.delete_me(jsonb, text, bytea) from public, anon, authenticated, service_role;
grant execute on function private.delete_me(jsonb, text, bytea) to speedcoding_api;
alter function private.delete_me(jsonb, text, bytea) owner to speedcoding_writer;

revoke create on schema private from speedcoding_writer;
