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
