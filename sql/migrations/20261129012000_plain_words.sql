-- Comments and refusals in plain words: they say who does what. Nothing else changes.

-- A function is given only to an owner that may create in its schema: for the length of this migration.
grant create on schema private to speedcoding_keeper;
grant create on schema private to speedcoding_writer;

-- Two answers are equal if their texts are, without the white space around them and in Unicode's composed form.
create or replace function private.answer_digest(salt bytea, answer text) returns bytea
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return sha256(salt || convert_to(normalize(btrim(answer, E' \t\r\n'), nfc), 'UTF8'));
end
$$;

comment on function private.answer_digest(bytea, text) is 'The salted SHA-256 of an answer, which is stored in its place.';
revoke all on function private.answer_digest(bytea, text) from public, anon, authenticated, service_role;
grant execute on function private.answer_digest(bytea, text) to speedcoding_writer, speedcoding_keeper;

create or replace function private.attempt_cooldown(attempts integer) returns interval
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when attempts >= 7 then interval '10 minutes'
    when attempts >= 4 then interval '5 minutes'
    else interval '1 minute'
  end;
end
$$;

comment on function private.attempt_cooldown(integer) is
  'How long a runner waits after this many failed attempts: 1, 1, 1, 5, 5, 5, then 10 minutes.';
revoke all on function private.attempt_cooldown(integer) from public, anon, authenticated, service_role;
grant execute on function private.attempt_cooldown(integer) to speedcoding_writer;

create or replace function private.check_boards(
  out problem text, out fact text, out challenge_id uuid, out tech_stack_key text, out user_id uuid,
  out submission_id uuid, out total_ms bigint, out end_time timestamptz, out entries bigint
) returns setof record
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with truth as materialized (
    select * from private.recompute_boards()
  ),
  kept as materialized (
    select 'best' as fact, challenge_id, tech_stack_key, user_id, submission_id, total_ms, end_time, 1::bigint as entries
      from public.personal_bests
     union all
    select 'board', challenge_id, tech_stack_key, null, null, null, null, entries
      from private.boards
     where entries <> 0
     union all
    select 'bucket ' || level, challenge_id, tech_stack_key, null, null, bucket << level, null, entries
      from private.rank_buckets
     union all
    select 'record', challenge_id, tech_stack_key, null, submission_id, total_ms, end_time, 1
      from private.records
  )
  (select 'missing', truth.* from truth except all select 'missing', kept.* from kept)
   union all
  (select 'wrong', kept.* from kept except all select 'wrong', truth.* from truth)
$$;

comment on function private.check_boards() is
  'The differences between the stored boards and the boards computed from all runs. Any row shows a defect. Reads everything; safe on a live database.';
revoke all on function private.check_boards() from public, anon, authenticated, service_role;
alter function private.check_boards() owner to speedcoding_keeper;

-- Runs when the whole transaction is done: an author may build or renumber a challenge step by step.
create or replace function private.check_challenge() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  subject jsonb := case tg_op when 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
  challenge record;
  placed integer;
  missing integer;
  bare text;
  reasons text[] := array[]::text[];
begin
  select id, required_milestones, active
    into challenge
    from public.challenges
   where id = (subject ->> tg_argv[0])::uuid;
  select count(*)
    into placed
    from public.challenge_milestones as m
   where m.challenge_id = challenge.id;
  select min(expected.number)
    into missing
    from generate_series(1, placed) as expected (number)
   where not exists (
     select from public.challenge_milestones as m
      where m.challenge_id = challenge.id
        and m.number = expected.number
   );
  if missing is not null then
    perform private.refuse(409, 'challenge_incomplete', format(
      'The milestones of a challenge are numbered 1, 2, 3 and so on, without a gap: number %s is missing.', missing));
  end if;
  -- Milestones are added row by row: the challenge is not complete after each of them.
  if not challenge.active or (tg_op = 'INSERT' and tg_table_name <> 'challenges') then
    return null;
  end if;
  if challenge.required_milestones > placed then
    reasons := reasons || format('This challenge has %s of the %s milestones that it requires.',
      placed, challenge.required_milestones);
  end if;
  select string_agg(m.number::text, ', ' order by m.number)
    into bare
    from public.challenge_milestones as m
   where m.challenge_id = challenge.id
     and private.takes_input(m.verification)
     and not exists (
       select from private.answer_variants as v
        where v.challenge_id = m.challenge_id
          and v.milestone_number = m.number
          and not v.retired
     );
  if bare is not null then
    reasons := reasons || format(
      'A milestone that is passed by an answer needs an input in private.answer_variants: there is none for milestone %s.', bare);
  end if;
  if reasons <> '{}' then
    perform private.refuse(409, 'challenge_incomplete',
      array_to_string(reasons, ' ') || ' Switch active off until the challenge is complete.');
  end if;
  return null;
end
$$;

comment on function private.check_challenge() is
  'Refuses milestones whose numbers have a gap, and an active challenge that is impossible to complete.';
revoke all on function private.check_challenge() from public, anon, authenticated, service_role;
alter function private.check_challenge() owner to speedcoding_keeper;

-- Runs once for each statement, because one may retire thousands of inputs. New inputs are added before old ones go.
create or replace function private.check_inputs() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  bare integer;
begin
  select min(m.number)
    into bare
    from (select distinct o.challenge_id, o.milestone_number from old_rows as o) as touched
    join public.challenges as c on c.id = touched.challenge_id
    join public.challenge_milestones as m on m.challenge_id = c.id and m.number = touched.milestone_number
   where c.active
     and private.takes_input(m.verification)
     and not exists (
       select from private.answer_variants as v
        where v.challenge_id = m.challenge_id
          and v.milestone_number = m.number
          and not v.retired
     );
  if bare is not null then
    perform private.refuse(409, 'challenge_incomplete', format(
      'Milestone %s is passed by an answer and would have no input left: add another input first, or switch active off.', bare));
  end if;
  return null;
end
$$;

comment on function private.check_inputs() is 'Refuses to take the last input from a milestone of an active challenge.';
revoke all on function private.check_inputs() from public, anon, authenticated, service_role;
alter function private.check_inputs() owner to speedcoding_keeper;

-- The dashboard gives a session, its packages and its video; the other columns are copied from the session.
create or replace function private.complete_submission() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  session public.sessions;
begin
  if exists (select from public.submissions where session_id = new.session_id) then
    perform private.refuse(409, 'submission_exists', 'This session already has a submission.');
  end if;
  select * into session from public.sessions where id = new.session_id;
  -- Where there is none, the foreign key says so; an import may bring both in one statement.
  if found then
    if session.status <> 'completed' then
      perform private.refuse(409, 'session_not_completed',
        format('Only a completed session can have a submission, and this session is %s.', session.status));
    end if;
    new.user_id := session.user_id;
    new.challenge_id := session.challenge_id;
    new.tech_stack := session.tech_stack;
    new.tech_stack_key := session.tech_stack_key;
    new.total_ms := session.total_ms;
    new.end_time := session.end_time;
  end if;
  if new.status <> 'PENDING' then
    new.reviewed_at := coalesce(new.reviewed_at, private.clock());
  end if;
  return new;
end
$$;

comment on function private.complete_submission() is
  'Copies the run of a new submission from its session, and refuses a second one or one without a completed session.';
revoke all on function private.complete_submission() from public, anon, authenticated, service_role;
alter function private.complete_submission() owner to speedcoding_keeper;

-- Names all reasons at once: those that the caller gives, and the runs under way if the rules would change.
create or replace function private.demand_editable(challenge uuid, fixed text, touches_rules boolean) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  reasons text := fixed;
  last_deadline timestamptz;
begin
  if touches_rules then
    select max(s.deadline)
      into last_deadline
      from public.sessions as s
     where s.challenge_id = challenge
       and s.status = 'running'
       and s.deadline > private.clock();
  end if;
  if last_deadline is not null then
    reasons := concat_ws(' ', nullif(fixed, ''), format(
      'Runs of this challenge are under way, so its rules cannot change now: switch active off, and change them when the last run is over, on %s at the latest.',
      to_char(last_deadline at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')));
  end if;
  if reasons <> '' then
    perform private.refuse(409, case fixed when '' then 'challenge_running' else 'challenge_used' end, reasons);
  end if;
end
$$;

comment on function private.demand_editable(uuid, text, boolean) is
  'Refuses a change to a challenge for the reasons given in fixed, and a change of its rules while runs are under way.';
revoke all on function private.demand_editable(uuid, text, boolean) from public, anon, authenticated, service_role;
alter function private.demand_editable(uuid, text, boolean) owner to speedcoding_keeper;

create or replace function private.demand_milestone(challenge uuid, milestone integer) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  verification text;
begin
  select d.verification
    into verification
    from public.challenge_milestones as d
   where d.challenge_id = challenge
     and d.number = milestone;
  if not found then
    perform private.refuse(400, 'unknown_milestone', format('This challenge has no milestone %s.', milestone),
      jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
        'field', 'milestoneNumber', 'code', 'unknown_milestone', 'message', 'is not a milestone of this challenge'))));
  end if;
  return verification;
end
$$;

comment on function private.demand_milestone(uuid, integer) is
  'The verification of a milestone of a challenge. Refuses a number that the challenge does not have.';
revoke all on function private.demand_milestone(uuid, integer) from public, anon, authenticated, service_role;
alter function private.demand_milestone(uuid, integer) owner to speedcoding_writer;

create or replace function private.demand_pending(judged public.submissions) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if judged.status <> 'PENDING' then
    perform private.refuse(409, 'submission_already_reviewed', format('This submission is %s already.', judged.status),
      jsonb_build_object('submissionStatus', judged.status));
  end if;
end
$$;

comment on function private.demand_pending(public.submissions) is 'Refuses a submission that is already approved or rejected.';
revoke all on function private.demand_pending(public.submissions) from public, anon, authenticated, service_role;
alter function private.demand_pending(public.submissions) owner to speedcoding_writer;

create or replace function private.demand_role(role text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(private.caller_role(), '') not in (demand_role.role, 'admin') then
    perform private.refuse(403, 'role_required', format('Only a %s or an admin may do this.', demand_role.role));
  end if;
end
$$;

comment on function private.demand_role(text) is 'Refuses a caller who at this moment has neither this role nor admin.';
revoke all on function private.demand_role(text) from public, anon, authenticated, service_role;
alter function private.demand_role(text) owner to speedcoding_writer;

create or replace function private.digest_answer() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.answer is not null then
    new.salt := uuid_send(gen_random_uuid());
    new.digest := private.answer_digest(new.salt, new.answer);
    new.answer := null;
  end if;
  return new;
end
$$;

comment on function private.digest_answer() is 'Replaces an answer that is written by its salted digest.';
revoke all on function private.digest_answer() from public, anon, authenticated, service_role;
alter function private.digest_answer() owner to speedcoding_keeper;

create or replace function private.expire_session(session uuid) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update public.sessions
     set status = 'expired', end_time = deadline
   where id = session
     and status = 'running';
end
$$;

comment on function private.expire_session(uuid) is 'Stores that a session ended at its deadline. Reads compute the same before it is stored.';
revoke all on function private.expire_session(uuid) from public, anon, authenticated, service_role;
alter function private.expire_session(uuid) owner to speedcoding_writer;

-- A challenge that was withdrawn keeps its boards; one that is being prepared is not shown.
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
  'The board of a challenge, overall or for a tech stack. Refuses a challenge that has no boards.';
revoke all on function private.find_board(text, text) from public, anon, authenticated, service_role;
alter function private.find_board(text, text) owner to speedcoding_writer;

-- A cascade deletes the submissions of each session in a statement of its own. This function locks all rows that the
-- cascade will need before the first of them, in the same order as every other function. old_rows holds the deleted
-- rows.
create or replace function private.foresee_cascade() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  gone uuid[];
  challenges uuid[];
begin
  if old.id <> (select o.id from old_rows as o limit 1) then
    return null;
  end if;
  gone := array(select id from old_rows);
  -- Sessions before submissions, which is the order of a correction; and every row that names a moderator who goes.
  perform from public.sessions where user_id = any (gone) order by id for update;
  select array_agg(s.challenge_id) filter (where s.user_id = any (gone) or s.session_id = any (gone))
    into challenges
    from (
      select challenge_id, user_id, session_id
        from public.submissions
       where user_id = any (gone)
          or session_id = any (gone)
          or claimed_by = any (gone)
          or reviewed_by = any (gone)
       order by id
         for update
    ) as s;
  if challenges is not null then
    perform private.lock_boards(challenges);
  end if;
  return null;
end
$$;

comment on function private.foresee_cascade() is
  'Locks the submissions that a deletion will cascade to, then their challenges'' boards.';
revoke all on function private.foresee_cascade() from public, anon, authenticated, service_role;
alter function private.foresee_cascade() owner to speedcoding_keeper;

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
  'A page of a board with ranks, after a given entry. Only the version if the caller already knows it.';
revoke all on function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid)
  to speedcoding_api;
alter function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid)
  owner to speedcoding_writer;

create or replace function private.get_milestone_input(
  caller jsonb, session_id uuid, milestone_number integer, out refusal jsonb, out input text
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  session record;
begin
  select s.id, s.challenge_id, s.status, s.deadline, c.ordered
    into session
    from public.sessions as s
    join public.challenges as c on c.id = s.challenge_id
   where s.id = get_milestone_input.session_id
     and s.user_id = runner;
  if not found then
    perform private.refuse(404, 'session_not_found', 'You have no such session.');
  end if;
  refusal := private.find_over(session.id, session.status, session.deadline, private.clock());
  if refusal is not null then
    return;
  end if;
  -- A runner sees no input ahead of its turn, or they could read it in a run that they abandon.
  if session.ordered then
    perform private.demand_turn(session.id, session.challenge_id, get_milestone_input.milestone_number);
  end if;
  input := private.read_input(session.id, get_milestone_input.milestone_number);
end
$$;

comment on function private.get_milestone_input(jsonb, uuid, integer) is
  'The caller''s own input for a milestone that is next, or passed, in a running session.';
revoke all on function private.get_milestone_input(jsonb, uuid, integer) from public, anon, authenticated, service_role;
grant execute on function private.get_milestone_input(jsonb, uuid, integer) to speedcoding_api;
alter function private.get_milestone_input(jsonb, uuid, integer) owner to speedcoding_writer;

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
  'The caller''s own entry on a board, and the number of entries. Without an entry, only the number.';
revoke all on function private.get_standing(jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function private.get_standing(jsonb, text, text) to speedcoding_api;
alter function private.get_standing(jsonb, text, text) owner to speedcoding_writer;

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
  -- The runs of a banned user do not count.
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
  'A public profile: the user''s runs that count, and at most 100 personal bests, first the overall ones and then the newest others.';
revoke all on function private.get_user(jsonb, text) from public, anon, authenticated, service_role;
grant execute on function private.get_user(jsonb, text) to speedcoding_api;
alter function private.get_user(jsonb, text) owner to speedcoding_writer;

create or replace function private.guard_answer_variant() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- This waits for sessions that are being given the input.
  perform from private.answer_variants where id = old.id for update;
  if exists (select from private.session_inputs where variant_id = old.id) then
    perform private.refuse(409, 'input_given',
      'Sessions have been given this input, so the input and its answer cannot change: set retired, and add another input.');
  end if;
  return case tg_op when 'DELETE' then old end;
end
$$;

comment on function private.guard_answer_variant() is 'Refuses changes to an input that a session was given.';
revoke all on function private.guard_answer_variant() from public, anon, authenticated, service_role;
alter function private.guard_answer_variant() owner to speedcoding_keeper;

create or replace function private.guard_challenge() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  used boolean;
begin
  -- This waits for runs that are being started; later starts wait for this change.
  perform from public.challenges where id = old.id for update;
  used := exists (select from public.sessions where challenge_id = old.id);
  if tg_op = 'DELETE' then
    if used then
      perform private.refuse(409, 'challenge_used', 'This challenge has been run, so it cannot be deleted: switch active off to withdraw it.');
    end if;
    return old;
  end if;
  perform private.demand_editable(
    old.id,
    concat_ws(' ',
      case when new.id <> old.id then 'A challenge keeps its id.' end,
      case when new.slug <> old.slug and used
        then 'This challenge has been run, so it keeps its slug: links contain it.' end),
    (new.required_milestones, new.ordered) <> (old.required_milestones, old.ordered));
  return new;
end
$$;

comment on function private.guard_challenge() is 'Refuses changes to a challenge that its runs do not allow.';
revoke all on function private.guard_challenge() from public, anon, authenticated, service_role;
alter function private.guard_challenge() owner to speedcoding_keeper;

create or replace function private.guard_challenge_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  challenge uuid := case tg_op when 'INSERT' then new.challenge_id else old.challenge_id end;
begin
  -- Refuses a kind of verification that the rules do not know.
  if tg_op <> 'DELETE' then
    perform private.takes_input(new.verification);
  end if;
  if tg_op = 'UPDATE' and (new.challenge_id, new.number, new.verification) = (old.challenge_id, old.number, old.verification) then
    return null;
  end if;
  -- As for the challenge itself. Other changes to its milestones wait, so that the numbers stay contiguous.
  perform from public.challenges where id = challenge for update;
  perform private.demand_editable(
    challenge,
    concat_ws(' ',
      case when new.challenge_id <> old.challenge_id then 'A milestone keeps its challenge.' end,
      case when (tg_op = 'DELETE' or new.number <> old.number)
          and exists (select from public.sessions where challenge_id = challenge)
        then 'This challenge has been run, so its milestones keep their numbers and cannot be deleted.' end),
    tg_op = 'INSERT' or new.verification <> old.verification);
  return null;
end
$$;

comment on function private.guard_challenge_milestone() is
  'Refuses changes to a challenge''s milestones that its runs do not allow.';
revoke all on function private.guard_challenge_milestone() from public, anon, authenticated, service_role;
alter function private.guard_challenge_milestone() owner to speedcoding_keeper;

create or replace function private.guard_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- As with its session.
  if tg_op = 'INSERT' then
    new.published := false;
    return new;
  end if;
  if tg_op = 'DELETE' then
    -- With its session it may go.
    if old.passed and pg_trigger_depth() = 1 then
      perform private.refuse(409, 'milestone_passed', 'A milestone that is passed stays passed.');
    end if;
    return old;
  end if;
  if new.published <> old.published and pg_trigger_depth() = 1 then
    perform private.refuse(409, 'milestone_fixed',
      'A milestone is public while its session''s submission is APPROVED: change the status of the submission, not published.');
  end if;
  if (new.id, new.session_id, new.user_id, new.milestone_number)
    is distinct from (old.id, old.session_id, old.user_id, old.milestone_number)
  then
    perform private.refuse(409, 'milestone_fixed', 'A milestone keeps its id, its session and its number.');
  end if;
  if old.passed and not new.passed then
    perform private.refuse(409, 'milestone_passed', 'A milestone that is passed stays passed.');
  end if;
  if new.passed <> (new.completed_at is not null) then
    perform private.refuse(409, 'milestone_times',
      'A milestone that is passed has a time in completed_at, and one that is not passed has none.');
  end if;
  new.pending := new.pending and not new.passed;
  return new;
end
$$;

comment on function private.guard_milestone() is 'Refuses changes to a milestone that history does not allow.';
revoke all on function private.guard_milestone() from public, anon, authenticated, service_role;
alter function private.guard_milestone() owner to speedcoding_keeper;

create or replace function private.is_answer(session uuid, milestone integer, answer text) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A runner may answer without having asked for the input.
  perform private.read_input(session, milestone);
  return exists (
    select from private.session_inputs as g
      join private.answer_variants as v on v.id = g.variant_id
     where g.session_id = session
       and g.milestone_number = milestone
       and g.user_id = private.caller_id()
       and v.digest = private.answer_digest(v.salt, is_answer.answer)
  );
end
$$;

comment on function private.is_answer(uuid, integer, text) is 'Whether this answers the input that the caller''s session has for a milestone.';
revoke all on function private.is_answer(uuid, integer, text) from public, anon, authenticated, service_role;
grant execute on function private.is_answer(uuid, integer, text) to speedcoding_writer;
alter function private.is_answer(uuid, integer, text) owner to speedcoding_keeper;

create or replace function private.list_challenges(caller jsonb, page_size integer, after text default null)
returns setof private.challenge_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.enter(caller, anyone => true);
  return query
    select described.*
      from (
        select id, slug
          from public.challenges
         where active
           and (after is null or slug > after)
         order by slug
         limit page_size
      ) as page
     cross join lateral private.describe_challenge(page.id) as described
     order by page.slug;
end
$$;

comment on function private.list_challenges(jsonb, integer, text) is
  'The active challenges with their milestones, in order of slug, after a given one.';
revoke all on function private.list_challenges(jsonb, integer, text) from
  public, anon, authenticated, service_role;
grant execute on function private.list_challenges(jsonb, integer, text) to speedcoding_api;
alter function private.list_challenges(jsonb, integer, text) owner to speedcoding_writer;

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
  'The history of a board''s record, the current one first, before a given one. Only the version if the caller already knows it.';
revoke all on function private.list_records(jsonb, text, text, bigint[], integer, bigint) from
  public, anon, authenticated, service_role;
grant execute on function private.list_records(jsonb, text, text, bigint[], integer, bigint) to speedcoding_api;
alter function private.list_records(jsonb, text, text, bigint[], integer, bigint) owner to speedcoding_writer;

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
  'Whether a recording is the caller''s own and not handed in. A recording that moderators see cannot be deleted.';
revoke all on function private.may_delete_recording(text) from public, anon, authenticated, service_role;
grant execute on function private.may_delete_recording(text) to authenticated;
alter function private.may_delete_recording(text) owner to speedcoding_writer;

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
  'Whether a recording is the caller''s own or belongs to an approved submission, or the caller is a moderator.';
revoke all on function private.may_read_recording(text) from public, anon, authenticated, service_role;
grant execute on function private.may_read_recording(text) to anon, authenticated;
alter function private.may_read_recording(text) owner to speedcoding_writer;

-- Checks a milestone against its session and its challenge. Rows that exist already are not checked again.
create or replace function private.place_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  session record;
begin
  select s.challenge_id, s.start_time, coalesce(s.end_time, private.clock()) as end_time
    into session
    from public.sessions as s
   where s.id = new.session_id;
  -- Without a session the foreign key refuses it.
  if not found then
    return new;
  end if;
  if not exists (
    select from public.challenge_milestones as m
     where m.challenge_id = session.challenge_id
       and m.number = new.milestone_number
  ) then
    perform private.refuse(400, 'unknown_milestone',
      format('The challenge of this session has no milestone %s.', new.milestone_number));
  end if;
  if new.completed_at < session.start_time or new.completed_at > session.end_time then
    perform private.refuse(409, 'milestone_times', format(
      'A milestone is passed while its session runs: completed_at must be from %s to %s.',
      session.start_time, session.end_time));
  end if;
  return new;
end
$$;

comment on function private.place_milestone() is
  'Refuses a milestone that its session''s challenge does not have, or that was passed before or after the session.';
revoke all on function private.place_milestone() from public, anon, authenticated, service_role;
alter function private.place_milestone() owner to speedcoding_keeper;

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
  'The rank of a time on a board: one more than the number of faster runners. Equal times share it (1, 2, 2, 4).';
revoke all on function private.rank_of(uuid, text, bigint) from public, anon, authenticated, service_role;
alter function private.rank_of(uuid, text, bigint) owner to speedcoding_writer;

create or replace function private.read_input(session uuid, milestone integer) returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  takes boolean;
  given text;
begin
  select private.takes_input(d.verification)
    into takes
    from public.sessions as s
    join public.challenge_milestones as d on d.challenge_id = s.challenge_id
   where s.id = session
     and d.number = milestone;
  if takes is not true then
    perform private.refuse(404, 'input_not_found', 'This milestone has no input.');
  end if;
  for turn in 1..2 loop
    select v.input
      into given
      from private.session_inputs as g
      join private.answer_variants as v on v.id = g.variant_id
     where g.session_id = session
       and g.milestone_number = milestone
       and g.user_id = private.caller_id();
    exit when found;
    insert into private.session_inputs (session_id, milestone_number, user_id, variant_id)
    select s.id, milestone, s.user_id, v.id
      from public.sessions as s
      join private.answer_variants as v on v.challenge_id = s.challenge_id and v.milestone_number = milestone
     where s.id = session
       and s.user_id = private.caller_id()
       and not v.retired
     order by random()
     limit 1
        on conflict do nothing;
  end loop;
  if given is null then
    perform private.refuse(404, 'input_not_found', 'This milestone has no input.');
  end if;
  return given;
end
$$;

comment on function private.read_input(uuid, integer) is
  'The input of the caller''s session for a milestone. Chooses one if the session has none yet.';
revoke all on function private.read_input(uuid, integer) from public, anon, authenticated, service_role;
grant execute on function private.read_input(uuid, integer) to speedcoding_writer;
alter function private.read_input(uuid, integer) owner to speedcoding_keeper;

create or replace function private.rebuild_boards() returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  lock table private.boards in exclusive mode;
  delete from public.personal_bests;
  delete from private.rank_buckets;
  delete from private.records;
  update private.boards set version = nextval('private.board_versions'), entries = 0;
  with truth as materialized (
    select * from private.recompute_boards()
  ),
  bests as (
    insert into public.personal_bests (challenge_id, tech_stack_key, user_id, submission_id, total_ms, end_time)
    select challenge_id, tech_stack_key, user_id, submission_id, total_ms, end_time from truth where fact = 'best'
  ),
  buckets as (
    insert into private.rank_buckets (challenge_id, tech_stack_key, level, bucket, entries)
    select challenge_id, tech_stack_key, level, total_ms >> level, entries
      from truth
     cross join lateral cast(split_part(fact, ' ', 2) as smallint) as level
     where fact like 'bucket %'
  ),
  records as (
    insert into private.records (challenge_id, tech_stack_key, submission_id, total_ms, end_time)
    select challenge_id, tech_stack_key, submission_id, total_ms, end_time from truth where fact = 'record'
  )
  insert into private.boards as b (challenge_id, tech_stack_key, version, entries)
  select challenge_id, tech_stack_key, nextval('private.board_versions'), entries from truth where fact = 'board'
      on conflict (challenge_id, tech_stack_key) do update set entries = excluded.entries;
end
$$;

comment on function private.rebuild_boards() is
  'Makes all boards anew from the runs that count. Call it after rows were loaded without triggers, or when check_boards() found a difference.';
revoke all on function private.rebuild_boards() from public, anon, authenticated, service_role;
alter function private.rebuild_boards() owner to speedcoding_keeper;

create or replace function private.recompute_boards(
  out fact text, out challenge_id uuid, out tech_stack_key text, out user_id uuid, out submission_id uuid,
  out total_ms bigint, out end_time timestamptz, out entries bigint
) returns setof record
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with runs as (
    select r.challenge_id, board.tech_stack_key, r.user_id, r.submission_id, r.total_ms, r.end_time
      from private.counted_runs as r
     cross join lateral (values (''), (r.tech_stack_key)) as board (tech_stack_key)
  ),
  bests as materialized (
    select distinct on (challenge_id, tech_stack_key, user_id) *
      from runs
     order by challenge_id, tech_stack_key, user_id, total_ms, end_time, submission_id
  )
  select 'best', challenge_id, tech_stack_key, user_id, submission_id, total_ms, end_time, 1 from bests
   union all
  select 'board', challenge_id, tech_stack_key, null, null, null, null, count(*)
    from bests
   group by challenge_id, tech_stack_key
   union all
  select 'bucket ' || level, challenge_id, tech_stack_key, null, null, total_ms >> level << level, null, count(*)
    from bests
   cross join unnest('{20,15,10,6}'::integer[]) as level
   group by challenge_id, tech_stack_key, level, total_ms >> level
   union all
  select 'record', challenge_id, tech_stack_key, null, submission_id, total_ms, end_time, 1
    from (
      select *,
             min(total_ms) over (
               partition by challenge_id, tech_stack_key order by end_time, total_ms, submission_id
               rows between unbounded preceding and 1 preceding
             ) as to_beat
        from runs
    ) as ladder
   where to_beat is null
      or total_ms < to_beat
$$;

comment on function private.recompute_boards() is
  'Computes the boards from all runs that count. The triggers must arrive at the same.';
revoke all on function private.recompute_boards() from public, anon, authenticated, service_role;
alter function private.recompute_boards() owner to speedcoding_keeper;

create or replace function private.refusal(status integer, code text, explanation text, members jsonb default '{}')
returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return members || jsonb_build_object('status', status, 'code', code, 'detail', explanation);
end
$$;

comment on function private.refusal(integer, text, text, jsonb) is
  'The same as private.refuse(), but returned instead of raised, so that changes made before it are kept.';
revoke all on function private.refusal(integer, text, text, jsonb) from
  public, anon, authenticated, service_role;
grant execute on function private.refusal(integer, text, text, jsonb) to speedcoding_writer;

create or replace function private.start_session(caller jsonb, tech_stack text, challenge text default null)
returns private.session_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  runner uuid := (caller ->> 'sub')::uuid;
  chosen record;
  running record;
  started_at timestamptz;
  started uuid;
begin
  -- One start of a user at a time, before anything is asked: whoever has waited may have been signed out.
  perform pg_advisory_xact_lock(hashtextextended(runner::text, 0));
  perform private.enter(caller);
  select id, max_duration
    into chosen
    from public.challenges
   where slug = coalesce(challenge, 'freestyle')
     and active;
  if not found then
    perform private.refuse(404, 'challenge_not_found', case
      when challenge is null
        then 'The default challenge, freestyle, is not available: name a challenge by its slug; GET /challenges lists them.'
      else 'There is no such challenge: GET /challenges lists them.'
    end);
  end if;

  -- The clock is read when nothing is left to wait for: a start that read it while the last session was still
  -- being ended would begin before that one's end.
  loop
    select id, deadline
      into running
      from public.sessions
     where user_id = runner
       and status = 'running'
       for no key update;
    if found then
      if private.clock() < running.deadline then
        perform private.refuse(409, 'session_already_running',
          'A session of yours is running: end or abandon it first.',
          jsonb_build_object('sessionId', running.id));
      end if;
      perform private.expire_session(running.id);
    end if;

    -- Whoever starts one without this function (the dashboard) meets the partial unique index.
    started_at := private.clock();
    insert into public.sessions as s (user_id, challenge_id, tech_stack, start_time, deadline)
    values (runner, chosen.id, start_session.tech_stack, started_at, started_at + chosen.max_duration)
        on conflict (user_id) where status = 'running' do nothing
    returning s.id into started;
    exit when found;
  end loop;
  return private.describe_session(started);
end
$$;

comment on function private.start_session(jsonb, text, text) is
  'Starts the caller''s clock on a challenge (freestyle by default).';
revoke all on function private.start_session(jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function private.start_session(jsonb, text, text) to speedcoding_api;
alter function private.start_session(jsonb, text, text) owner to speedcoding_writer;

revoke create on schema private from speedcoding_keeper;
revoke create on schema private from speedcoding_writer;
