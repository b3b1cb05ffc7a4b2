create or replace function private.get_leaderboard(
  caller jsonb, slug text, tech_stack text, known_versions bigint[], page_size integer,
  after_ms bigint default null, after_end timestamptz default null, after_id uuid default null
) returns setof private.board_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  board record;
begin
  perform private.enter(caller, anyone => true);
  -- The version is read first. A change in between is shown under the old version, so clients fetch it again.
  board := private.find_board(slug, tech_stack);
  if board.version <> all (known_versions) then
    return query
      with page as materialized (
        select p.total_ms, p.end_time, p.submission_id
          from public.personal_bests as p
         where p.challenge_id = board.challenge_id
           and p.tech_stack_key = board.tech_stack_key
           and (p.total_ms, p.end_time, p.submission_id) > (
             coalesce(after_ms, -1),
             coalesce(after_end, '-infinity'),
             coalesce(after_id, '00000000-0000-0000-0000-000000000000')
           )
         order by p.total_ms, p.end_time, p.submission_id
         limit page_size
      ),
      -- The rank of the page's first entry, and how many entries of the page before have the same time.
      start as materialized (
        select top.total_ms,
               private.rank_of(board.challenge_id, board.tech_stack_key, top.total_ms) as rank,
               (
                 select count(*)
                   from public.personal_bests as tied
                  where tied.challenge_id = board.challenge_id
                    and tied.tech_stack_key = board.tech_stack_key
                    and tied.total_ms = top.total_ms
                    and (tied.end_time, tied.submission_id) < (top.end_time, top.submission_id)
               ) as tied_before
          from page as top
         order by top.total_ms, top.end_time, top.submission_id
         limit 1
      ),
      ranked as (
        select page.*, rank() over (order by page.total_ms) as place
          from page
      )
      select board.version, board.entries,
             start.rank + ranked.place - 1
               + case when ranked.total_ms > start.total_ms then start.tied_before else 0 end,
             u.id, u.username::text, s.session_id, s.tech_stack, ranked.total_ms,
             s.total_time, s.packages, s.video_url, s.submitted_at, ranked.end_time,
             ranked.submission_id
        from ranked
       cross join start
       cross join lateral (select * from public.submissions as run where run.id = ranked.submission_id limit 1) as s
       cross join lateral (select * from public.users as runner where runner.id = s.user_id limit 1) as u
       order by ranked.total_ms, ranked.end_time, ranked.submission_id;
    if found then
      return;
    end if;
  end if;
  return next row(board.version, board.entries, null, null, null, null, null, null, null, null, null, null, null, null)
    ::private.board_result;
end
$$;

comment on function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid) is
  'A page of a board with ranks, after a given entry. Only the version if the caller already knows it.';
revoke all on function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid)
  to speedcoding_api;
alter function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid)
  owner to speedcoding_writer;
