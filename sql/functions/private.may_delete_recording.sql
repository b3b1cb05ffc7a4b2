create or replace function private.may_delete_recording(path text) returns boolean
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return private.caller_role() is not null
    and starts_with(path, private.caller_id()::text || '/')
    and not exists (
      select from public.submissions
       where session_id = private.recording_session(path)
         and private.recording_path(video_url) = path
    );
end
$$;

comment on function private.may_delete_recording(text) is
  'Whether a recording is the caller''s own and not handed in. A recording that moderators see cannot be deleted.';
revoke all on function private.may_delete_recording(text) from public, anon, authenticated, service_role;
grant execute on function private.may_delete_recording(text) to authenticated;
alter function private.may_delete_recording(text) owner to speedcoding_writer;
