create or replace function private.get_user(caller jsonb, username text) returns private.user_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  profile private.user_result;
begin
  perform private.enter(caller, anyone => true);
  select u.id, u.username::text, u.role::text, u.created_at, 0, 0, 0, '[]'::jsonb
    into profile
    from public.users as u
   where lower(u.username) = lower(get_user.username collate "C")
     and u.erased_at is null;
  if not found then
    perform private.refuse(404, 'user_not_found', 'There is no user of this name.');
  end if;
  -- The runs of a banned user do not count.
  if not exists (select from public.bans as b where b.user_id = profile.id) then
    select count(*)
      into profile.approved_runs
      from public.submissions as s
     where s.user_id = profile.id
       and s.status = 'APPROVED';
    with bests as materialized (
      select p.*, c.slug,
             not exists (
               select from public.personal_bests as faster
                where faster.challenge_id = p.challenge_id
                  and faster.tech_stack_key = p.tech_stack_key
                  and faster.total_ms < p.total_ms
             ) as is_first
        from public.personal_bests as p
        join public.challenges as c on c.id = p.challenge_id and c.ranked
       where p.user_id = profile.id
    ),
    shown as (
      select b.*
        from bests as b
       order by b.tech_stack_key <> '', b.end_time desc, b.submission_id
       limit 100
    )
    select (select count(*) from bests where bests.tech_stack_key = ''),
           (select count(*) from bests where bests.is_first),
           coalesce(jsonb_agg(jsonb_build_object(
             'challenge', shown.slug,
             'techStackKey', nullif(shown.tech_stack_key, ''),
             'rank', private.rank_of(shown.challenge_id, shown.tech_stack_key, shown.total_ms),
             'of', b.entries,
             'sessionId', s.session_id,
             'techStack', s.tech_stack,
             'totalTimeMs', shown.total_ms,
             'totalTime', s.total_time,
             'videoUrl', s.video_url,
             'achievedAt', shown.end_time
           ) order by shown.tech_stack_key <> '', shown.slug, shown.tech_stack_key), '[]')
      into profile.challenges, profile.first_places, profile.personal_bests
      from shown
      join private.boards as b using (challenge_id, tech_stack_key)
      join public.submissions as s on s.id = shown.submission_id;
  end if;
  return profile;
end
$$;

comment on function private.get_user(jsonb, text) is
  'A public profile: the user''s runs that count, and at most 100 personal bests, first the overall ones and then the newest others.';
revoke all on function private.get_user(jsonb, text) from public, anon, authenticated, service_role;
grant execute on function private.get_user(jsonb, text) to speedcoding_api;
alter function private.get_user(jsonb, text) owner to speedcoding_writer;
