-- Roles, schemas, and what Supabase provides that a plain PostgreSQL lacks.
-- Runs as a superuser and as Supabase's `postgres` (no superuser, but CREATEROLE).

-- Roles belong to the cluster, migrations to a database: several databases of one cluster may run this at
-- the same moment, and no lock is common to them. Whoever comes second finds the role there and goes on.
do $$
declare
  wanted record;
begin
  for wanted in
    select *
      from (values
        -- Supabase's own; on a plain PostgreSQL they are created for PostgREST's sake.
        ('anon', 'nologin noinherit'),
        ('authenticated', 'nologin noinherit'),
        ('service_role', 'nologin noinherit bypassrls'),
        ('authenticator', 'login noinherit'),
        -- Ours. The service's login gets a password from `speedcoding db login`.
        ('speedcoding_api', 'login noinherit'),
        ('speedcoding_writer', 'nologin'),
        ('speedcoding_keeper', 'nologin')
      ) as role (name, options)
  loop
    if exists (select from pg_catalog.pg_roles where rolname = wanted.name) then
      continue;
    end if;
    begin
      execute pg_catalog.format('create role %I %s', wanted.name, wanted.options);
      if wanted.name = 'authenticator' then
        grant anon, authenticated, service_role to authenticator;
      elsif wanted.name = 'speedcoding_api' then
        -- These apply when the role logs in itself; through an owner's URL the service sets the same.
        alter role speedcoding_api set statement_timeout = '10s';
        alter role speedcoding_api set lock_timeout = '5s';
        alter role speedcoding_api set idle_in_transaction_session_timeout = '10s';
      end if;
    exception
      when duplicate_object or unique_violation then
        null;
    end;
  end loop;
end
$$;

-- Whoever migrates must be able to hand functions over to their owners, and to become the service's role.
-- A superuser needs no grant. Two databases granting at once meet in pg_auth_members: try again.
do $$
declare
  role_name name;
begin
  if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    return;
  end if;
  foreach role_name in array array['speedcoding_api', 'speedcoding_writer', 'speedcoding_keeper']::name[]
  loop
    for attempt in 1..20 loop
      begin
        execute pg_catalog.format('grant %I to current_user', role_name);
        exit;
      exception
        when unique_violation or internal_error then
          if attempt = 20 then
            raise;
          end if;
      end;
    end loop;
  end loop;
end
$$;

create schema if not exists private;
create schema if not exists extensions;

-- On Supabase `auth` exists and belongs to somebody else: it is left as it is.
do $$
begin
  if pg_catalog.to_regnamespace('auth') is null then
    create schema auth;
    grant usage on schema auth to anon, authenticated, service_role;
  end if;
  if pg_catalog.to_regprocedure('auth.uid()') is null then
    -- Parsed now, so that it needs no search_path of its own: with one no policy could inline it.
    create function auth.uid() returns uuid
    language sql stable
    return (nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid;
    comment on function auth.uid() is 'The user that the request''s verified token names, or null.';
    grant execute on function auth.uid() to public;
  end if;
end
$$;

revoke all on schema private from public, anon, authenticated, service_role;
-- service_role too: the defaults of tables that it may write call functions by name.
grant usage on schema private to service_role, speedcoding_api, speedcoding_writer, speedcoding_keeper;
grant usage on schema public to anon, authenticated, service_role;
grant usage on schema public to speedcoding_api, speedcoding_writer, speedcoding_keeper;

comment on schema private is
  'Never exposed: credentials, sign-ins, rules. Clients reach it only through the SpeedCoding API.';
