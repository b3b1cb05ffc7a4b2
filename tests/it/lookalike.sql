-- Turns an empty database into a look-alike of a Supabase project, as far as migrations and the service can
-- tell: who owns what, who may do what, and default privileges that give the client roles everything.
--
-- Runs as a superuser, in one batch (no psql commands), once per database; roles belong to the cluster and may
-- be there already, or be created by another database's test at this very moment.
--
-- Migrate and serve as the role that this leaves as the database's owner: `postgres`, which on Supabase is no
-- superuser. Where the cluster's bootstrap superuser has taken that name (it cannot be demoted), the role is
-- called `supabase_postgres` instead. To learn which:
--   select pg_get_userbyid(datdba) from pg_database where datname = current_database()

do $$
declare
  project_owner constant text := case
    when exists (select from pg_catalog.pg_roles where rolname = 'postgres' and rolsuper) then 'supabase_postgres'
    else 'postgres'
  end;
  wanted record;
  wanted_member record;
begin
  for wanted in
    select *
      from (values
        ('supabase_admin', 'superuser createdb createrole replication bypassrls login', ''),
        (project_owner, 'nosuperuser createdb createrole replication bypassrls login',
         'search_path = "$user", public, extensions'),
        ('anon', 'nologin noinherit', 'statement_timeout = ''3s'''),
        ('authenticated', 'nologin noinherit', 'statement_timeout = ''8s'''),
        ('service_role', 'nologin noinherit bypassrls', ''),
        ('authenticator', 'login noinherit', 'statement_timeout = ''8s'''),
        ('dashboard_user', 'nosuperuser createdb createrole replication', ''),
        ('supabase_auth_admin', 'noinherit createrole login', 'search_path = auth'),
        ('supabase_storage_admin', 'noinherit createrole login', 'search_path = storage')
      ) as role (name, options, setting)
  loop
    if exists (select from pg_catalog.pg_roles where rolname = wanted.name) then
      continue;
    end if;
    begin
      execute format('create role %I %s', wanted.name, wanted.options);
      if wanted.setting <> '' then
        execute format('alter role %I set %s', wanted.name, wanted.setting);
      end if;
    exception
      when duplicate_object or unique_violation then
        null;
    end;
  end loop;

  -- From 16 on CREATEROLE alone no longer lets a role grant what it did not create: Supabase gives its
  -- `postgres` the client roles with ADMIN OPTION. The roles of SpeedCoding are among them only where another
  -- database of this cluster has brought them, as another user; on Supabase `postgres` creates them itself.
  for wanted_member in
    select role.rolname as role_name, wanted_grant.member, wanted_grant.options
      from (values
        ('anon', 'authenticator', ''), ('authenticated', 'authenticator', ''), ('service_role', 'authenticator', ''),
        ('anon', project_owner, ' with admin option'),
        ('authenticated', project_owner, ' with admin option'),
        ('service_role', project_owner, ' with admin option'),
        ('authenticator', project_owner, ' with admin option'),
        ('speedcoding_api', project_owner, ' with admin option'),
        ('speedcoding_writer', project_owner, ' with admin option'),
        ('speedcoding_keeper', project_owner, ' with admin option'),
        ('anon', 'supabase_storage_admin', ''), ('authenticated', 'supabase_storage_admin', ''),
        ('service_role', 'supabase_storage_admin', '')
      ) as wanted_grant (role_name, member, options)
      join pg_catalog.pg_roles as role on role.rolname = wanted_grant.role_name
     where not exists (
       select from pg_catalog.pg_auth_members as held
        where held.roleid = role.oid
          and held.member = wanted_grant.member::pg_catalog.regrole
          and (held.admin_option or wanted_grant.options = '')
     )
  loop
    for attempt in 1..20 loop
      begin
        execute format('grant %I to %I%s', wanted_member.role_name, wanted_member.member, wanted_member.options);
        exit;
      exception
        -- Two databases granting at once meet in pg_auth_members ("tuple concurrently updated").
        when unique_violation or internal_error then
          if attempt = 20 then
            raise;
          end if;
      end;
    end loop;
  end loop;

  -- The project's owner owns the database, hence (through pg_database_owner) the schema public, and no more.
  execute format('alter database %I owner to %I', current_database(), project_owner);
  execute format('grant all on database %I to dashboard_user', current_database());
  execute format('grant usage on schema public to %I, anon, authenticated, service_role', project_owner);

  create schema extensions authorization supabase_admin;
  execute format('grant all on schema extensions to %I, dashboard_user', project_owner);
  grant usage on schema extensions to anon, authenticated, service_role;

  -- What the owner makes in public is everybody's, and so is what supabase_admin makes: TRUNCATE included.
  for wanted in select unnest(array[project_owner, 'supabase_admin']) as name
  loop
    execute format('alter default privileges for role %I in schema public grant all on tables to %I, anon, authenticated, service_role',
      wanted.name, project_owner);
    execute format('alter default privileges for role %I in schema public grant all on functions to %I, anon, authenticated, service_role',
      wanted.name, project_owner);
    execute format('alter default privileges for role %I in schema public grant all on sequences to %I, anon, authenticated, service_role',
      wanted.name, project_owner);
  end loop;

  -- GoTrue's schema: the owner of the project may look, and no more.
  create schema auth authorization supabase_auth_admin;
  grant usage on schema auth to anon, authenticated, service_role, dashboard_user;
  execute format('grant usage on schema auth to %I', project_owner);

  -- Storage's schema: the owner of the project may use the rows, but makes no policy of its own.
  create schema storage authorization supabase_storage_admin;
  grant usage on schema storage to anon, authenticated, service_role, dashboard_user;
  execute format('grant usage on schema storage to %I', project_owner);
end
$$;

create table auth.users (
  id uuid primary key,
  aud varchar(255),
  role varchar(255),
  email varchar(255),
  encrypted_password varchar(255),
  raw_app_meta_data jsonb,
  raw_user_meta_data jsonb,
  created_at timestamptz,
  updated_at timestamptz
);
alter table auth.users enable row level security;
alter table auth.users owner to supabase_auth_admin;

-- Supabase's own definitions: unpinned search path, the older setting first.
create function auth.uid() returns uuid language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid
$$;
create function auth.role() returns text language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
  )::text
$$;
create function auth.jwt() returns jsonb language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')
  )::jsonb
$$;
alter function auth.uid() owner to supabase_auth_admin;
alter function auth.role() owner to supabase_auth_admin;
alter function auth.jwt() owner to supabase_auth_admin;

create table storage.buckets (
  id text primary key,
  name text not null unique,
  owner uuid,
  public boolean default false,
  file_size_limit bigint,
  allowed_mime_types text[],
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
create table storage.objects (
  id uuid primary key default gen_random_uuid(),
  bucket_id text references storage.buckets (id),
  name text,
  owner uuid,
  owner_id text,
  metadata jsonb,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
alter table storage.buckets owner to supabase_storage_admin;
alter table storage.objects owner to supabase_storage_admin;
create function storage.foldername(name text) returns text[] language sql immutable as $$
  select (string_to_array(name, '/'))[1:array_length(string_to_array(name, '/'), 1) - 1]
$$;
alter function storage.foldername(text) owner to supabase_storage_admin;

do $$
declare
  project_owner constant text := (
    select pg_catalog.pg_get_userbyid(datdba) from pg_catalog.pg_database where datname = current_database());
begin
  execute format('grant all on auth.users to %I, dashboard_user', project_owner);
  execute format('grant all on storage.buckets, storage.objects to %I with grant option', project_owner);
  grant all on storage.buckets, storage.objects to anon, authenticated, service_role;

  create publication supabase_realtime;
  execute format('alter publication supabase_realtime owner to %I', project_owner);
end
$$;
