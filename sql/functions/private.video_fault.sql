-- Only the rules that need the database are here. The service checks the others, such as the list of hosts.
create or replace function private.video_fault(video_url text, runner uuid, session uuid) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  recording text := private.recording_path(video_url);
  code text;
  message text;
begin
  if video_url is null then
    return null;
  end if;
  if length(video_url) > 2048 or video_url !~ '^https://[^[:space:][:cntrl:]]+$' then
    code := 'video_url';
    message := 'must be a plain URL';
  elsif private.recording_session(recording) is distinct from session and recording is not null
    or not starts_with(recording, runner::text || '/')
  then
    code := 'not_yours';
    message := 'must be a recording of your own, in the folder <your id>/<the session''s id>/ of the bucket recordings';
  elsif private.video_key(video_url) is null then
    code := 'no_video';
    message := 'names no video in a form that is known here: give the address of the video itself, not of a channel, a playlist or the site';
  else
    return null;
  end if;
  return jsonb_build_object('field', 'videoUrl', 'code', code, 'message', message);
end
$$;

comment on function private.video_fault(text, uuid, uuid) is
  'Why a runner cannot hand in a video for a session, as a member of `errors` or `warnings`. Null if they can.';
revoke all on function private.video_fault(text, uuid, uuid) from public, anon, authenticated, service_role;
grant execute on function private.video_fault(text, uuid, uuid) to speedcoding_writer;
