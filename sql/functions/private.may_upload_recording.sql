create or replace function private.may_upload_recording(path text) returns boolean
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return private.caller_role() is not null
    and exists (
      select from public.live_sessions as s
        left join public.submissions as handed_in on handed_in.session_id = s.id
       where s.id = private.recording_session(path)
         and s.user_id = private.caller_id()
         and starts_with(path, s.user_id::text || '/')
         and (s.status in ('running', 'judging') or handed_in.status in ('PENDING', 'REJECTED'))
    );
end
$$;

comment on function private.may_upload_recording(text) is
  'Whether a path lies in the folder of one of the caller''s sessions, and that session is running or judging, or its submission can still be changed.';
revoke all on function private.may_upload_recording(text) from public, anon, authenticated, service_role;
grant execute on function private.may_upload_recording(text) to authenticated;
alter function private.may_upload_recording(text) owner to speedcoding_writer;
