create or replace function private.recording_path(video_url text) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return substring(video_url from '^https://[^/]+/storage/v1/object/(?:public|sign|authenticated)/recordings/([^?#]*)');
end
$$;

comment on function private.recording_path(text) is
  'The object of the bucket recordings that a URL of Supabase Storage names; null for any other URL.';
revoke all on function private.recording_path(text) from public, anon, authenticated, service_role;
grant execute on function private.recording_path(text) to service_role, speedcoding_writer, speedcoding_keeper;
