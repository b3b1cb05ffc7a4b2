-- However many sign-ins an account has, one row ends them: a sign-in is alive only in the epoch of its account. What
-- was redeemed lately is remembered for more than one generation, so that lost answers and late tabs are told from
-- thieves. No name looks like that of an erased account.

alter table private.credentials add column sign_in_epoch integer not null default 0;
comment on column private.credentials.sign_in_epoch is
  'Raised by what ends all sign-ins of the account or all but one: those of an earlier epoch are over.';
alter table private.refresh_tokens
  add column epoch integer not null default 0,
  add column earlier_rotations timestamptz[],
  add column forgiven_generation integer;
comment on column private.refresh_tokens.epoch is
  'The epoch of the account in which it was opened or kept; it is alive in no later one.';
comment on column private.refresh_tokens.earlier_rotations is
  'When the generations before the current one were first issued, the latest first: seven at most.';
comment on column private.refresh_tokens.forgiven_generation is
  'The last generation whose answer was taken for lost, and given once more.';
comment on column private.refresh_tokens.revoked_reason is
  'Why it was ended: logout, signed_out (from another device), password_changed, reuse or rollback of a token, too_many, outdated (by the sweep: it was over before).';

-- Of the living alone, and of what never changes while they live: a rotation stays heap-only.
create index refresh_tokens_living on private.refresh_tokens (user_id, epoch, created_at) where revoked_at is null;

-- private.enter() asks for the epoch; who ends sign-ins raises it and takes the one that is kept along.
grant select (sign_in_epoch), update (sign_in_epoch) on private.credentials to speedcoding_writer;
grant select (epoch), update (epoch) on private.refresh_tokens to speedcoding_writer;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer, speedcoding_keeper;

create or replace function private.audit_sign_in() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.audit_log (action, actor_id, user_id, subject_id, details)
  values (
    'sign_in.revoked',
    -- A logout bears a refresh token, a login a password: no claims.
    case when new.revoked_reason in ('logout', 'too_many') then new.user_id else private.caller_id() end,
    new.user_id, new.id, jsonb_build_object('cause', new.revoked_reason)
  );
  return null;
end
$$;

comment on function private.audit_sign_in() is 'Notes in the audit log that a sign-in was ended, and why.';
revoke all on function private.audit_sign_in() from public, anon, authenticated, service_role;
alter function private.audit_sign_in() owner to speedcoding_keeper;

create or replace function private.open_sign_in() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A login holds the row; while an account is being registered there is none yet.
  select sign_in_epoch into new.epoch from private.credentials where user_id = new.user_id;
  new.epoch := coalesce(new.epoch, 0);
  return new;
end
$$;

comment on function private.open_sign_in() is 'Opens a sign-in in the epoch of its account.';
revoke all on function private.open_sign_in() from public, anon, authenticated, service_role;

-- Called by a login that holds the account's row of private.credentials, so that the count is exact.
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
  'Ends the oldest living sign-ins of an account, so that with the next one there are a hundred: how many.';
revoke all on function private.bound_sign_ins(uuid) from public, anon, authenticated, service_role;
grant execute on function private.bound_sign_ins(uuid) to speedcoding_api;

-- The epoch of the account decides: with one row written, every sign-in but the one that is kept is over, however many
-- there are, and so is every login that has compared the old password. As many as an account may have are ended by name
-- at once; where there are more, the sweep ends them in its turn. Call it with the row of private.credentials locked:
-- whoever opens sign-ins, or ends several, waits there and nowhere else.
create or replace function private.end_sign_ins(account uuid, kept uuid, cause text) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  now_epoch integer;
  ended bigint;
begin
  update private.credentials
     set sign_in_epoch = sign_in_epoch + 1
   where user_id = account
  returning sign_in_epoch into now_epoch;
  update private.refresh_tokens
     set epoch = now_epoch
   where id = kept
     and user_id = account
     and epoch = now_epoch - 1;
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = cause
   where id in (
     select id
       from private.refresh_tokens
      where user_id = account
        and epoch = now_epoch - 1
        and revoked_at is null
        and live_until > private.clock()
      order by created_at desc
      limit 100
   )
     and live_until > private.clock();
  get diagnostics ended = row_count;
  return ended;
end
$$;

comment on function private.end_sign_ins(uuid, uuid, text) is
  'Ends all living sign-ins of an account but the one that is kept: how many were ended by name.';
revoke all on function private.end_sign_ins(uuid, uuid, text) from public, anon, authenticated, service_role;
grant execute on function private.end_sign_ins(uuid, uuid, text) to speedcoding_api, speedcoding_writer;

-- A token of any generation will do: to end a sign-in is always safe. One that another has ended ends no others.
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
  -- Asked once the account is ours: of two devices that log each other out the first one has decided.
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
  'Ends the sign-in that a refresh token belongs to (local), all others of its user, or all (global): how many were ended by name.';
revoke all on function private.log_out(uuid, bytea, bytea, text) from public, anon, authenticated, service_role;
grant execute on function private.log_out(uuid, bytea, bytea, text) to speedcoding_api;

-- A generation was redeemed before, and is sent once more. Its own first redemption opened its window, and nothing
-- extends it. Why this tells lost answers and late tabs from thieves: docs/authentication.md.
create or replace function private.redeems_again(
  sign_in private.refresh_tokens, presented integer, grace_seconds double precision, patience_seconds double precision
) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  age interval := private.clock() - case presented
    when sign_in.generation - 1 then sign_in.rotated_at
    else sign_in.earlier_rotations[sign_in.generation - 1 - presented]
  end;
begin
  if presented >= sign_in.generation or age is null then
    return false;
  end if;
  return age < grace_seconds * interval '1 second'
    -- Nobody has used what it was answered with: the answer was lost. That is believed of one generation in four.
    or presented = sign_in.generation - 1
      and age < patience_seconds * interval '1 second'
      and (sign_in.forgiven_generation is null
        or presented = sign_in.forgiven_generation
        or presented >= sign_in.forgiven_generation + 4);
end
$$;

comment on function private.redeems_again(private.refresh_tokens, integer, double precision, double precision) is
  'Whether a refresh token that was redeemed before is answered once more.';
revoke all on function private.redeems_again(private.refresh_tokens, integer, double precision, double precision) from
  public, anon, authenticated, service_role;
grant execute on function private.redeems_again(private.refresh_tokens, integer, double precision, double precision)
  to speedcoding_api;

-- The first line of every domain function. From here on every policy sees the caller, for this transaction
-- only: nothing of one request can stay on a pooled connection. Logout, revocation and bans count at once,
-- whatever the access token still says.
create or replace function private.enter(caller jsonb, anyone boolean default false) returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  signed_in record;
begin
  perform set_config('request.jwt.claims', coalesce(caller, '{"role": "anon"}')::text, true);
  if caller is null then
    if not anyone then
      perform private.refuse(401, 'missing_token', 'Send an access token: log in to get one.');
    end if;
    return null;
  end if;
  select account.id, account.banned_at
    into signed_in
    from private.refresh_tokens as token
    join private.credentials as credential
      on credential.user_id = token.user_id
     and token.epoch = credential.sign_in_epoch
    join public.users as account on account.id = token.user_id
   where token.id = (caller ->> 'session_id')::uuid
     and token.user_id = (caller ->> 'sub')::uuid
     and token.live_until > private.clock();
  if not found then
    perform private.refuse(401, 'sign_in_ended', 'This sign-in has ended: log in again.');
  end if;
  if signed_in.banned_at is not null then
    perform private.refuse(403, 'account_banned', 'This account is banned.');
  end if;
  return signed_in.id;
end
$$;

comment on function private.enter(jsonb, boolean) is
  'Makes the verified claims the caller of this transaction and returns the user''s id; refuses the signed-out and the banned.';
revoke all on function private.enter(jsonb, boolean) from public, anon, authenticated, service_role;
grant execute on function private.enter(jsonb, boolean) to speedcoding_writer;
alter function private.enter(jsonb, boolean) owner to speedcoding_writer;

create or replace function private.list_sign_ins(caller jsonb, page_size integer, before uuid default null)
returns table (
  id uuid, device text, address text, created_at timestamptz, last_used_at timestamptz, current boolean
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := private.enter(caller);
begin
  return query
    select token.id, token.user_agent, host(token.ip), token.created_at,
           coalesce(token.rotated_at, token.created_at), token.id = (caller ->> 'session_id')::uuid
      from private.refresh_tokens as token
      join private.credentials as credential
        on credential.user_id = token.user_id
       and token.epoch = credential.sign_in_epoch
     where token.user_id = me
       and token.revoked_at is null
       and token.live_until > private.clock()
       and (before is null or (token.created_at, token.id) < (
         select last.created_at, last.id from private.refresh_tokens as last where last.id = before))
     order by token.created_at desc, token.id desc
     limit page_size;
end
$$;

comment on function private.list_sign_ins(jsonb, integer, uuid) is
  'The caller''s living sign-ins, the newest first, from before one of them on.';
revoke all on function private.list_sign_ins(jsonb, integer, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.list_sign_ins(jsonb, integer, uuid) to speedcoding_api;
alter function private.list_sign_ins(jsonb, integer, uuid) owner to speedcoding_writer;

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
  -- Again: as the first time.
  if not ended and not exists (select from private.refresh_tokens where id = sign_in and user_id = me) then
    perform private.refuse(404, 'sign_in_not_found', 'There is no such sign-in of yours: GET /auth/sign-ins lists them.');
  end if;
end
$$;

comment on function private.end_sign_in(jsonb, uuid) is
  'Ends one of the caller''s sign-ins; whether it was this call that did.';
revoke all on function private.end_sign_in(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.end_sign_in(jsonb, uuid) to speedcoding_api;
alter function private.end_sign_in(jsonb, uuid) owner to speedcoding_writer;

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

create or replace function private.guard_username() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- delete_me() says that the account is erased in the same breath.
  if new.erased_at is null and lower(new.username) like 'erased-%' then
    -- Whoever had such a name before this was refused keeps it.
    if tg_op = 'INSERT' or lower(new.username) <> lower(old.username) then
      perform private.refuse(400, 'invalid_request', 'username must not begin with erased-: erased accounts are called so.',
        jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
          'field', 'username', 'code', 'reserved',
          'message', 'must not begin with erased-: erased accounts are called so'))));
    end if;
  end if;
  return new;
end
$$;

comment on function private.guard_username() is 'Refuses a name that looks like that of an erased account.';
revoke all on function private.guard_username() from public, anon, authenticated, service_role;
alter function private.guard_username() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_writer, speedcoding_keeper;

-- One place, whichever version of the service inserts.
create trigger refresh_tokens_open before insert on private.refresh_tokens
  for each row execute function private.open_sign_in();
create trigger users_guard_username before insert or update of username on public.users
  for each row execute function private.guard_username();

-- From now on a login keeps an account to a hundred; those that have more lose the oldest.
update private.refresh_tokens
   set revoked_at = private.clock(), revoked_reason = 'too_many'
 where id in (
   select id
     from (
       select id, row_number() over (partition by user_id order by created_at desc) as place
         from private.refresh_tokens
        where live_until > private.clock()
     ) as living
    where place > 100
 );
