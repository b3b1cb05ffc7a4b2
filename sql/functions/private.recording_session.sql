create or replace function private.recording_session(path text) returns uuid
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return substring(path from
    '^[0-9a-f-]{36}/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$')::uuid;
end
$$;

comment on function private.recording_session(text) is
  'The session that a recording belongs to; null where its path is not <user id>/<session id>/<plain name>.';
revoke all on function private.recording_session(text) from public, anon, authenticated, service_role;
grant execute on function private.recording_session(text) to service_role, speedcoding_writer, speedcoding_keeper;
