-- What PostgREST asks: a schema of its own, because clients may enter no other of ours that holds functions, and
-- not an exposed one, so that nothing in it can be called over HTTP.

create schema speedcoding;
comment on schema speedcoding is
  'What PostgREST calls before each request. Do not expose it: nothing in it is for clients.';
revoke all on schema speedcoding from public, anon, authenticated, service_role;
grant usage on schema speedcoding to anon, authenticated, service_role, speedcoding_writer;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private, speedcoding to speedcoding_writer;

create or replace function private.admit(caller jsonb) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.enter(caller);
end
$$;

comment on function private.admit(jsonb) is
  'Refuses the signed-out and the banned: asked before a request is passed on to PostgREST.';
revoke all on function private.admit(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.admit(jsonb) to speedcoding_api;
alter function private.admit(jsonb) owner to speedcoding_writer;

-- For who reaches PostgREST by another way than the service's, such as the project's own URL. Whoever runs it turns
-- it on with `db-pre-request`. Supabase Auth's own tokens, whose issuer ends in /auth/v1, are none of ours to judge.
create or replace function speedcoding.check_request() returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
begin
  if claims ->> 'role' = 'authenticated' and coalesce(claims ->> 'iss', '') not like '%/auth/v1' then
    perform private.enter(claims);
  end if;
end
$$;

comment on function speedcoding.check_request() is
  'PostgREST''s db-pre-request: an ended sign-in and a banned account count at once, whatever the token still says.';
revoke all on function speedcoding.check_request() from public, anon, authenticated, service_role;
grant execute on function speedcoding.check_request() to anon, authenticated, service_role;
alter function speedcoding.check_request() owner to speedcoding_writer;

revoke create on schema private, speedcoding from speedcoding_writer;
