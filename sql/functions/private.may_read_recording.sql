create or replace function private.may_read_recording(path text) returns boolean
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return starts_with(path, private.caller_id()::text || '/')
    or private.caller_role() in ('moderator', 'admin')
    or exists (
      select from public.submissions
       where session_id = private.recording_session(path)
         and private.recording_path(video_url) = path
         and status = 'APPROVED'
    );
end
$$;

comment on function private.may_read_recording(text) is
  'Whether a recording is the caller''s own or belongs to an approved submission, or the caller is a moderator.';
revoke all on function private.may_read_recording(text) from public, anon, authenticated, service_role;
grant execute on function private.may_read_recording(text) to anon, authenticated;
alter function private.may_read_recording(text) owner to speedcoding_writer;
