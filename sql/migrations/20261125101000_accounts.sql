-- One's own account: a new password, and erasure.

alter table public.users add column erased_at timestamptz;
comment on column public.users.erased_at is
  'Since when the account is erased: only approved runs are left, under an anonymous name; null: it is not.';

-- The functions below change and erase the caller's own rows, and can touch no others.
create policy users_erase on public.users for update to speedcoding_writer
  using (id = (select private.caller_id()))
  with check (id = (select private.caller_id()) and role = 'runner' and erased_at is not null);
create policy users_delete on public.users for delete to speedcoding_writer
  using (id = (select private.caller_id()));
grant update (username, role, erased_at), delete on public.users to speedcoding_writer;

create policy credentials_own on private.credentials for select to speedcoding_writer
  using (user_id = (select private.caller_id()));
create policy credentials_change on private.credentials for update to speedcoding_writer
  using (user_id = (select private.caller_id()))
  with check (user_id = (select private.caller_id()));
create policy credentials_erase on private.credentials for delete to speedcoding_writer
  using (user_id = (select private.caller_id()));
grant select (user_id, password_hash), update (password_hash, updated_at), delete
  on private.credentials to speedcoding_writer;

create policy refresh_tokens_erase on private.refresh_tokens for delete to speedcoding_writer
  using (user_id = (select private.caller_id()));
grant delete on private.refresh_tokens to speedcoding_writer;

-- What is approved stays, whoever asks.
create policy submissions_erase on public.submissions for delete to speedcoding_writer
  using (user_id = (select auth.uid()) and status <> 'APPROVED');
create policy sessions_erase on public.sessions for delete to speedcoding_writer
  using (user_id = (select auth.uid()) and not published);
grant delete on public.submissions, public.sessions to speedcoding_writer;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer;

create or replace function private.find_own_credentials(
  caller jsonb, out username text, out password_hash text
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := (caller ->> 'sub')::uuid;
begin
  -- Nothing of an account that is erased: to erase it again is answered as the first time.
  if exists (select from public.users as u where u.id = me and u.erased_at is null) then
    me := private.enter(caller);
    select u.username, c.password_hash
      into find_own_credentials.username, find_own_credentials.password_hash
      from public.users as u
      join private.credentials as c on c.user_id = u.id
     where u.id = me;
  end if;
end
$$;

comment on function private.find_own_credentials(jsonb) is
  'What the caller''s password is compared with when it is asked for again; nothing of an erased account.';
revoke all on function private.find_own_credentials(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.find_own_credentials(jsonb) to speedcoding_api;
alter function private.find_own_credentials(jsonb) owner to speedcoding_writer;

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
  -- A statement of its own: a login that held the row above has opened its sign-in by now.
  with others as materialized (
    select id
      from private.refresh_tokens
     where user_id = me
       and id <> (caller ->> 'session_id')::uuid
       and revoked_at is null
       and least(idle_expires_at, expires_at) > private.clock()
     order by id
       for update
  )
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = 'password_changed'
   where id in (select id from others)
     and revoked_at is null;
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

revoke create on schema private from speedcoding_writer;
