-- Recordings in the project's own storage, where there is one: a private bucket, in which a runner's recordings of a
-- session lie under <user id>/<session id>/. Nothing in it is ever overwritten (there is no policy for UPDATE), and
-- what is handed in cannot be removed: what is shown is what moderators saw.

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

-- Whoever writes the URL, the service or the dashboard.
alter table public.submissions add constraint submissions_recording_own check (
  private.recording_path(video_url) is null
  or private.recording_session(private.recording_path(video_url)) is not distinct from session_id
    and starts_with(private.recording_path(video_url), user_id::text || '/')
);

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer;

-- The policies of storage.objects call these; they run as their owner, because Supabase's roles cannot enter this schema.
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
         and (s.status = 'running' or handed_in.status in ('PENDING', 'REJECTED'))
    );
end
$$;

comment on function private.may_upload_recording(text) is
  'Whether a path lies in the folder of a session of the caller that runs, or whose submission can still be changed.';
revoke all on function private.may_upload_recording(text) from public, anon, authenticated, service_role;
grant execute on function private.may_upload_recording(text) to authenticated;
alter function private.may_upload_recording(text) owner to speedcoding_writer;

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
  'Whether a recording is the caller''s own, or of an approved submission, or the caller a moderator.';
revoke all on function private.may_read_recording(text) from public, anon, authenticated, service_role;
grant execute on function private.may_read_recording(text) to anon, authenticated;
alter function private.may_read_recording(text) owner to speedcoding_writer;

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
  'Whether a recording is the caller''s own and not handed in: what moderators see stays what it is.';
revoke all on function private.may_delete_recording(text) from public, anon, authenticated, service_role;
grant execute on function private.may_delete_recording(text) to authenticated;
alter function private.may_delete_recording(text) owner to speedcoding_writer;

revoke create on schema private from speedcoding_writer;

create or replace function private.open_recordings() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  statement text;
  refused text;
begin
  if to_regclass('storage.buckets') is null or to_regclass('storage.objects') is null then
    return;
  end if;
  -- As texts: elsewhere there are no such tables.
  foreach statement in array array[
    'insert into storage.buckets (id, name, public, allowed_mime_types)
     values (''recordings'', ''recordings'', false, ''{video/*}'')
         on conflict (id) do nothing',
    'drop policy if exists speedcoding_recordings_upload on storage.objects',
    'create policy speedcoding_recordings_upload on storage.objects for insert to authenticated
       with check (bucket_id = ''recordings'' and private.may_upload_recording(name))',
    'drop policy if exists speedcoding_recordings_read on storage.objects',
    'create policy speedcoding_recordings_read on storage.objects for select to anon, authenticated
       using (bucket_id = ''recordings'' and private.may_read_recording(name))',
    'drop policy if exists speedcoding_recordings_delete on storage.objects',
    'create policy speedcoding_recordings_delete on storage.objects for delete to authenticated
       using (bucket_id = ''recordings'' and private.may_delete_recording(name))'
  ]
  loop
    begin
      execute statement;
    exception
      when insufficient_privilege then
        refused := sqlerrm;
    end;
  end loop;
  if refused is not null then
    raise warning 'Nobody can upload recordings to Supabase Storage yet: for % it says "%"', current_user, refused
      using hint = 'Run `select private.open_recordings()` as a superuser (supabase_admin), or create in the dashboard '
        'what docs/dashboard.md lists.';
  end if;
end
$$;

comment on function private.open_recordings() is
  'Makes the private bucket recordings and its policies, where there is Supabase Storage and the caller may.';
revoke all on function private.open_recordings() from public, anon, authenticated, service_role;

select private.open_recordings();
