create or replace function private.get_current_session(caller jsonb) returns private.session_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  runner uuid := private.enter(caller);
  running uuid;
begin
  select id
    into running
    from public.sessions
   where user_id = runner
     and status = 'running'
     and deadline > private.clock();
  if not found then
    perform private.refuse(404, 'no_running_session', 'No session of yours is running: start one.');
  end if;
  return private.describe_session(running);
end
$$;

comment on function private.get_current_session(jsonb) is 'The caller''s running session.';
revoke all on function private.get_current_session(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.get_current_session(jsonb) to speedcoding_api;
alter function private.get_current_session(jsonb) owner to speedcoding_writer;
