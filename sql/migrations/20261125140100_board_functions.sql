-- What the API reads from boards. A board's functions answer with a row for each entry, and with one that has no
-- entry where there is none: every row carries the version, which is the answer's ETag.
--
-- They are planned once in a connection's life. That plan does not know how long a page is: a `limit 1` in a lateral
-- join keeps it from reading whole tables.

create type private.board_result as (
  version bigint,
  entries bigint,
  rank bigint,
  user_id uuid,
  username text,
  session_id uuid,
  tech_stack text,
  total_ms bigint,
  total_time text,
  packages text[],
  video_url text,
  submitted_at timestamptz,
  end_time timestamptz,
  submission_id uuid
);
comment on type private.board_result is 'An entry of a board, with what the board is; without an entry, only that.';

create type private.record_result as (
  version bigint,
  user_id uuid,
  username text,
  session_id uuid,
  tech_stack text,
  total_ms bigint,
  total_time text,
  improved_by_ms bigint,
  video_url text,
  end_time timestamptz
);
comment on type private.record_result is 'A record of a board, with the board''s version; without a record, only that.';

create type private.user_result as (
  id uuid,
  username text,
  role text,
  created_at timestamptz,
  banned_at timestamptz,
  approved_runs bigint,
  challenges bigint,
  first_places bigint,
  personal_bests jsonb
);
comment on type private.user_result is 'A user''s public profile.';

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer;

-- A challenge that was withdrawn keeps the boards that it has; one that is being prepared is not told of.
create or replace function private.find_board(
  slug text, tech_stack text,
  out challenge_id uuid, out tech_stack_key text, out version bigint, out entries bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  is_ranked boolean;
begin
  tech_stack_key := coalesce(private.tech_stack_key(tech_stack), '');
  if tech_stack_key = '' and tech_stack is not null then
    perform private.refuse(400, 'invalid_request', 'techStack must be visible text.',
      jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
        'field', 'techStack', 'code', 'invalid', 'message', 'must be visible text'))));
  end if;
  select c.id, c.ranked, coalesce(b.version, 0), coalesce(b.entries, 0)
    into find_board.challenge_id, is_ranked, find_board.version, find_board.entries
    from public.challenges as c
    left join private.boards as b on b.challenge_id = c.id and b.tech_stack_key = find_board.tech_stack_key
    left join private.boards as of_all on of_all.challenge_id = c.id and of_all.tech_stack_key = ''
   where c.slug = find_board.slug
     and (c.active or of_all.challenge_id is not null);
  if not found then
    perform private.refuse(404, 'challenge_not_found', 'There is no such challenge: GET /challenges lists them.');
  end if;
  if not is_ranked then
    perform private.refuse(404, 'challenge_not_ranked', 'The runs of this challenge are not ranked: it has no boards.');
  end if;
end
$$;

comment on function private.find_board(text, text) is
  'The board of a challenge, overall or of a tech stack; refuses where there can be none.';
revoke all on function private.find_board(text, text) from public, anon, authenticated, service_role;
alter function private.find_board(text, text) owner to speedcoding_writer;

-- Whole buckets as far as they go, each level within one bucket of the level before, then the runs of the last.
create or replace function private.rank_of(challenge uuid, stack_key text, run_ms bigint) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  return 1
    + coalesce((
        select sum(b.entries)
          from private.rank_buckets as b
         where b.challenge_id = challenge and b.tech_stack_key = stack_key and b.level = 20
           and b.bucket < run_ms >> 20
      ), 0)
    + coalesce((
        select sum(b.entries)
          from private.rank_buckets as b
         where b.challenge_id = challenge and b.tech_stack_key = stack_key and b.level = 15
           and b.bucket >= (run_ms >> 20) << 5 and b.bucket < run_ms >> 15
      ), 0)
    + coalesce((
        select sum(b.entries)
          from private.rank_buckets as b
         where b.challenge_id = challenge and b.tech_stack_key = stack_key and b.level = 10
           and b.bucket >= (run_ms >> 15) << 5 and b.bucket < run_ms >> 10
      ), 0)
    + coalesce((
        select sum(b.entries)
          from private.rank_buckets as b
         where b.challenge_id = challenge and b.tech_stack_key = stack_key and b.level = 6
           and b.bucket >= (run_ms >> 10) << 4 and b.bucket < run_ms >> 6
      ), 0)
    + (
        select count(*)
          from public.personal_bests as p
         where p.challenge_id = challenge and p.tech_stack_key = stack_key
           and p.total_ms >= (run_ms >> 6) << 6 and p.total_ms < run_ms
      );
end
$$;

comment on function private.rank_of(uuid, text, bigint) is
  'The rank of a time on a board: one more than runners who were faster. Equal times share it (1, 2, 2, 4).';
revoke all on function private.rank_of(uuid, text, bigint) from public, anon, authenticated, service_role;
alter function private.rank_of(uuid, text, bigint) owner to speedcoding_writer;

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
  -- The version is read first: what changes in between is shown under the old one, and fetched again.
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
      -- The page's first rank, and how many of the same time stand on the page before.
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
  'A page of a board with ranks, from after an entry on; nothing but the version where the caller knows it.';
revoke all on function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid)
  to speedcoding_api;
alter function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid)
  owner to speedcoding_writer;

create or replace function private.get_standing(caller jsonb, slug text, tech_stack text default null)
returns private.board_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  runner uuid := private.enter(caller);
  board record;
  standing private.board_result;
begin
  board := private.find_board(slug, tech_stack);
  select board.version, board.entries,
         private.rank_of(board.challenge_id, board.tech_stack_key, p.total_ms),
         u.id, u.username::text, s.session_id, s.tech_stack, p.total_ms, s.total_time,
         s.packages, s.video_url, s.submitted_at, p.end_time, p.submission_id
    into standing
    from public.personal_bests as p
    join public.submissions as s on s.id = p.submission_id
    join public.users as u on u.id = p.user_id
   where p.challenge_id = board.challenge_id
     and p.tech_stack_key = board.tech_stack_key
     and p.user_id = runner;
  standing.version := board.version;
  standing.entries := board.entries;
  return standing;
end
$$;

comment on function private.get_standing(jsonb, text, text) is
  'The caller''s own entry on a board, and of how many; without an entry, only how many.';
revoke all on function private.get_standing(jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function private.get_standing(jsonb, text, text) to speedcoding_api;
alter function private.get_standing(jsonb, text, text) owner to speedcoding_writer;

create or replace function private.list_records(
  caller jsonb, slug text, tech_stack text, known_versions bigint[], page_size integer, before_ms bigint default null
) returns setof private.record_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  board record;
begin
  perform private.enter(caller, anyone => true);
  board := private.find_board(slug, tech_stack);
  if board.version <> all (known_versions) then
    return query
      select board.version, u.id, u.username::text, s.session_id, s.tech_stack, step.total_ms,
             s.total_time, step.beaten_ms - step.total_ms, s.video_url, step.end_time
        from (
          select r.*, lead(r.total_ms) over (order by r.total_ms) as beaten_ms
            from private.records as r
           where r.challenge_id = board.challenge_id
             and r.tech_stack_key = board.tech_stack_key
        ) as step
       cross join lateral (select * from public.submissions as run where run.id = step.submission_id limit 1) as s
       cross join lateral (select * from public.users as runner where runner.id = s.user_id limit 1) as u
       where before_ms is null or step.total_ms > before_ms
       order by step.total_ms
       limit page_size;
    if found then
      return;
    end if;
  end if;
  return next row(board.version, null, null, null, null, null, null, null, null, null)::private.record_result;
end
$$;

comment on function private.list_records(jsonb, text, text, bigint[], integer, bigint) is
  'The history of a board''s record, the current one first, from before one on; nothing but the version where the caller knows it.';
revoke all on function private.list_records(jsonb, text, text, bigint[], integer, bigint) from
  public, anon, authenticated, service_role;
grant execute on function private.list_records(jsonb, text, text, bigint[], integer, bigint) to speedcoding_api;
alter function private.list_records(jsonb, text, text, bigint[], integer, bigint) owner to speedcoding_writer;

create or replace function private.get_user(caller jsonb, username text) returns private.user_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  profile private.user_result;
begin
  perform private.enter(caller, anyone => true);
  select u.id, u.username::text, u.role::text, u.created_at, u.banned_at, 0, 0, 0, '[]'::jsonb
    into profile
    from public.users as u
   where lower(u.username) = lower(get_user.username collate "C")
     and u.erased_at is null;
  if not found then
    perform private.refuse(404, 'user_not_found', 'There is no user of this name.');
  end if;
  -- Of a banned runner nothing counts.
  if profile.banned_at is null then
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
  'A public profile: what of the user''s runs counts, and at most 100 personal bests, those over all stacks before the newest others.';
revoke all on function private.get_user(jsonb, text) from public, anon, authenticated, service_role;
grant execute on function private.get_user(jsonb, text) to speedcoding_api;
alter function private.get_user(jsonb, text) owner to speedcoding_writer;

revoke create on schema private from speedcoding_writer;
