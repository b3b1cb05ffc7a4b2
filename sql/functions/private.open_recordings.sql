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
  -- The statements are texts, because without Supabase Storage these tables do not exist.
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
  'Makes the private bucket `recordings` and its policies, if Supabase Storage is there and the caller has the right.';
revoke all on function private.open_recordings() from public, anon, authenticated, service_role;
