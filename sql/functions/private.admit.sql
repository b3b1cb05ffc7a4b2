create or replace function private.admit(caller jsonb) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.enter(caller);
end
$$;

comment on function private.admit(jsonb) is
  'Refuses a caller whose sign-in has ended or who is banned. The service calls it when PostgREST has not checked the caller.';
revoke all on function private.admit(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.admit(jsonb) to speedcoding_api;
alter function private.admit(jsonb) owner to speedcoding_writer;
