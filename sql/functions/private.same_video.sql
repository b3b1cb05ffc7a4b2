create or replace function private.same_video(handed_in public.submissions) returns uuid[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select s.id
      from public.submissions as s
     where s.video_key = handed_in.video_key
       and s.user_id <> handed_in.user_id
     order by s.id
     limit 20
  );
end
$$;

comment on function private.same_video(public.submissions) is
  'Other runners'' submissions with the same video, the first 20, as far as the caller may see them.';
revoke all on function private.same_video(public.submissions) from public, anon, authenticated, service_role;
grant execute on function private.same_video(public.submissions) to authenticated, service_role, speedcoding_writer;
