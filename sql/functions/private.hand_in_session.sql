-- The packages and the video were kept since the end. The submission takes them over.
create or replace function private.hand_in_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public.submissions
    (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages, video_url)
  select new.id, new.user_id, new.challenge_id, new.tech_stack, new.tech_stack_key, new.total_ms, new.end_time,
         e.packages, e.video_url
    from private.session_ends as e
   where e.user_id = new.user_id
     and e.session_id = new.id
     and e.packages is not null
     and not exists (select from public.submissions where session_id = new.id);
  update private.session_ends
     set packages = null, video_url = null
   where user_id = new.user_id
     and session_id = new.id;
  return null;
end
$$;

comment on function private.hand_in_session() is 'Makes the submission of a session that was completed, from what its end brought.';
revoke all on function private.hand_in_session() from public, anon, authenticated, service_role;
alter function private.hand_in_session() owner to speedcoding_keeper;
