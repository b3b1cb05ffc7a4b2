-- Users, their credentials, and their sign-ins (refresh-token families).

create type public.user_role as enum ('runner', 'moderator', 'verifier', 'admin');
comment on type public.user_role is 'What a user may do; an admin may do all that the others may.';

create table public.users (
  id uuid primary key default private.uuid_v7(),
  -- "C", so that lower() below folds ASCII alike on every server, whatever its locale.
  username text collate "C" not null
    constraint users_username_form check (username ~ '^[A-Za-z0-9_-]{3,32}$'),
  role public.user_role not null default 'runner',
  created_at timestamptz not null default private.clock(),
  banned_at timestamptz
);
create unique index users_username_key on public.users (lower(username));

comment on table public.users is 'Accounts, as everybody may see them.';
comment on column public.users.id is 'UUIDv7.';
comment on column public.users.username is '3 to 32 of A-Z a-z 0-9 _ -; unique whatever the case.';
comment on column public.users.role is 'Read at every use: a change counts on the next request.';
comment on column public.users.created_at is 'When the account was registered.';
comment on column public.users.banned_at is 'Since when the account is banned; null: it is not.';

revoke all on public.users from public, anon, authenticated, service_role;
alter table public.users enable row level security;
-- Names and roles are public, as on every leaderboard.
create policy users_read on public.users for select
  to anon, authenticated, speedcoding_api, speedcoding_writer, speedcoding_keeper
  using (true);
-- The service registers runners; it cannot make itself a moderator.
create policy users_register on public.users for insert to speedcoding_api with check (role = 'runner');
grant select on public.users to
  anon, authenticated, speedcoding_api, speedcoding_writer, speedcoding_keeper;
grant insert (username) on public.users to speedcoding_api;
grant select, insert, update, delete on public.users to service_role;

create table private.credentials (
  user_id uuid primary key references public.users (id) on delete cascade,
  password_hash text not null,
  updated_at timestamptz not null default private.clock()
);
comment on table private.credentials is 'Password hashes; the service alone reads them.';
comment on column private.credentials.user_id is 'Whose password it is.';
comment on column private.credentials.password_hash is 'PHC string, or bcrypt''s of an imported user: algorithm, parameters, salt, hash.';
comment on column private.credentials.updated_at is 'When it was set or rehashed.';

revoke all on private.credentials from public, anon, authenticated, service_role;
alter table private.credentials enable row level security;
-- The service compares passwords before anybody is known: it must see every row.
create policy credentials_service on private.credentials for all to speedcoding_api
  using (true) with check (true);
grant select, insert, update, delete on private.credentials to speedcoding_api;

-- One row a sign-in, updated in place. Only what never changes is indexed, so that a rotation stays
-- heap-only (HOT); the fill factor leaves room for it on the page.
create table private.refresh_tokens (
  id uuid primary key,
  user_id uuid not null references public.users (id) on delete cascade,
  generation integer not null default 1 constraint refresh_tokens_generation_counts check (generation > 0),
  nonce_digest bytea not null constraint refresh_tokens_nonce_digest_sha256 check (length(nonce_digest) = 32),
  key_id bytea not null constraint refresh_tokens_key_id_length check (length(key_id) = 4),
  created_at timestamptz not null default private.clock(),
  rotated_at timestamptz,
  idle_expires_at timestamptz not null,
  expires_at timestamptz not null,
  revoked_at timestamptz,
  revoked_reason text,
  user_agent text,
  ip inet,
  constraint refresh_tokens_revoked_with_reason check ((revoked_at is null) = (revoked_reason is null))
) with (fillfactor = 70);
create index refresh_tokens_user_id on private.refresh_tokens (user_id);

comment on table private.refresh_tokens is
  'Sign-ins: one authenticated device each, a family of refresh tokens. No token is stored.';
comment on column private.refresh_tokens.id is 'Random, for it stands in every token of the family.';
comment on column private.refresh_tokens.user_id is 'Who signed in.';
comment on column private.refresh_tokens.generation is 'Which token of the family is current; 1 is the first.';
comment on column private.refresh_tokens.nonce_digest is 'SHA-256 of the secret in the token: the row alone forges none.';
comment on column private.refresh_tokens.key_id is 'Which of REFRESH_SECRETS signs this family.';
comment on column private.refresh_tokens.created_at is 'When the device signed in.';
comment on column private.refresh_tokens.rotated_at is 'When the current generation was first issued by a refresh.';
comment on column private.refresh_tokens.idle_expires_at is 'It ends then unless it is refreshed before.';
comment on column private.refresh_tokens.expires_at is 'It ends then in any case.';
comment on column private.refresh_tokens.revoked_at is 'When it was ended: logout, reuse, password change.';
comment on column private.refresh_tokens.revoked_reason is 'Why it was ended.';
comment on column private.refresh_tokens.user_agent is 'The device, as it named itself at sign-in.';
comment on column private.refresh_tokens.ip is 'The address it signed in from.';

revoke all on private.refresh_tokens from public, anon, authenticated, service_role;
alter table private.refresh_tokens enable row level security;
-- The service issues and redeems tokens before anybody is known: it must see every row.
create policy refresh_tokens_service on private.refresh_tokens for all to speedcoding_api
  using (true) with check (true);
-- private.enter() asks whether the caller's own sign-in is alive, and can see no other.
create policy refresh_tokens_own on private.refresh_tokens for select to speedcoding_writer
  using (user_id = (select private.caller_id()));
grant select, insert, update, delete on private.refresh_tokens to speedcoding_api;
grant select (id, user_id, idle_expires_at, expires_at, revoked_at) on private.refresh_tokens
  to speedcoding_writer;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer, speedcoding_keeper;

-- Read at use, never from the token, so that a demotion or a ban counts at once. It is SECURITY DEFINER
-- because the roles whose policies ask cannot enter this schema.
create or replace function private.caller_role() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select role::text
      from public.users
     where id = private.caller_id()
       and banned_at is null
  );
end
$$;

comment on function private.caller_role() is 'The caller''s role now; null for nobody and for the banned.';
revoke all on function private.caller_role() from public, anon, authenticated, service_role;
grant execute on function private.caller_role() to anon, authenticated, speedcoding_writer;
alter function private.caller_role() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_writer, speedcoding_keeper;
