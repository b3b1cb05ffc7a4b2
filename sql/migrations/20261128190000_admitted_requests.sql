-- An answer of PostgREST that names the request shows that its caller was admitted in the transaction that has read:
-- the service then looks up nothing.

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema speedcoding to speedcoding_writer;

create or replace function speedcoding.check_request() returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
  request text;
begin
  if claims ->> 'role' = 'authenticated' and coalesce(claims ->> 'iss', '') not like '%/auth/v1' then
    perform private.enter(claims);
    request := nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-request-id';
    -- The service need not ask again: it knows its own request by the id. A replica learns of revocations late.
    if request ~ '^[0-9a-f-]{36}$' and not pg_is_in_recovery() then
      perform set_config('response.headers', format('[{"Speedcoding-Admitted": "%s"}]', request), true);
    end if;
  end if;
end
$$;

comment on function speedcoding.check_request() is
  'PostgREST''s db-pre-request: an ended sign-in and a banned account count at once, whatever the token still says. Its answers name the request that was admitted.';
revoke all on function speedcoding.check_request() from public, anon, authenticated, service_role;
grant execute on function speedcoding.check_request() to anon, authenticated, service_role;
alter function speedcoding.check_request() owner to speedcoding_writer;

revoke create on schema speedcoding from speedcoding_writer;
