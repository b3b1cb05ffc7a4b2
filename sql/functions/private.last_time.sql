create or replace function private.last_time(session uuid) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select greatest(s.start_time, (
             select max(greatest(m.completed_at, m.requested_at))
               from public.milestones as m
              where m.session_id = s.id
           ))
      from public.sessions as s
     where s.id = session
  );
end
$$;

comment on function private.last_time(uuid) is
  'The latest time that a session has recorded: its start, a split, or a request for a verdict. Later times must not be earlier than this.';
revoke all on function private.last_time(uuid) from public, anon, authenticated, service_role;
grant execute on function private.last_time(uuid) to speedcoding_writer;
