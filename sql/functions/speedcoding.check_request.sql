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
    -- This header tells the service that it need not check the caller of this request again. A replica sends none,
    -- because it learns late of ended sign-ins.
    if request ~ '^[0-9a-f-]{36}$' and not pg_is_in_recovery() then
      perform set_config('response.headers', format('[{"Speedcoding-Admitted": "%s"}]', request), true);
    end if;
  end if;
end
$$;

comment on function speedcoding.check_request() is
  'PostgREST calls it before each request (db-pre-request). It refuses ended sign-ins and banned users, even if their token has not expired. A header of the answer names the request that was admitted.';
revoke all on function speedcoding.check_request() from public, anon, authenticated, service_role;
grant execute on function speedcoding.check_request() to anon, authenticated, service_role;
alter function speedcoding.check_request() owner to speedcoding_writer;
