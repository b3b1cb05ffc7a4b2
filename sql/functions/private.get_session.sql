create or replace function private.get_session(caller jsonb, session_id uuid) returns private.session_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  found_session private.session_result;
begin
  perform private.enter(caller, anyone => true);
  found_session := private.describe_session(session_id);
  if found_session.id is null then
    perform private.refuse(404, 'session_not_found', 'There is no such session, or it is not public.');
  end if;
  return found_session;
end
$$;

comment on function private.get_session(jsonb, uuid) is
  'One session: the caller''s own, any for moderators and verifiers, published ones for everyone.';
revoke all on function private.get_session(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.get_session(jsonb, uuid) to speedcoding_api;
alter function private.get_session(jsonb, uuid) owner to speedcoding_writer;
