create or replace function private.expire_session(session uuid) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update public.sessions
     set status = 'expired', end_time = deadline
   where id = session
     and status = 'running';
end
$$;

comment on function private.expire_session(uuid) is 'Stores that a session ended at its deadline. Reads compute the same before it is stored.';
revoke all on function private.expire_session(uuid) from public, anon, authenticated, service_role;
alter function private.expire_session(uuid) owner to speedcoding_writer;
