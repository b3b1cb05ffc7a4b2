-- The end of a run: nothing that comes with it costs time, verdicts that are pending are waited for, a clock that went
-- back leaves a mark. And what follows: claims that expire, videos that are known again, submissions that are withdrawn.

-- What came with the end of a session. Until it is handed in it is nobody's business but its runner's.
create table private.session_ends (
  user_id uuid not null,
  session_id uuid not null,
  digest bytea not null,
  packages text[] constraint session_ends_packages_form check (private.packages_valid(packages)),
  video_url text,
  warnings jsonb not null default '[]' constraint session_ends_warnings_list check (jsonb_typeof(warnings) = 'array'),
  primary key (user_id, session_id),
  constraint session_ends_session_fkey foreign key (user_id, session_id)
    references public.sessions (user_id, id) on delete cascade
);
comment on table private.session_ends is 'What came with the end of each session.';
comment on column private.session_ends.user_id is 'The session''s runner.';
comment on column private.session_ends.session_id is 'The session.';
comment on column private.session_ends.digest is 'SHA-256 of what the runner sent, so that a retry is told from another end.';
comment on column private.session_ends.packages is 'What is to be handed in once the session is completed; null once it is.';
comment on column private.session_ends.video_url is 'Likewise.';
comment on column private.session_ends.warnings is 'What was left out, and why: a list of {field, code, message}.';
revoke all on private.session_ends from public, anon, authenticated, service_role;
alter table private.session_ends enable row level security;
-- A runner's own: written by the end, read by whoever ends again.
create policy session_ends_write on private.session_ends for insert to speedcoding_writer
  with check (user_id = (select private.caller_id()));
create policy session_ends_read on private.session_ends for select to speedcoding_writer
  using (user_id = (select private.caller_id()));
grant select, insert (user_id, session_id, digest, packages, video_url, warnings) on private.session_ends to speedcoding_writer;
-- The trigger hands in, whoever has given the last verdict.
create policy session_ends_keep on private.session_ends for select to speedcoding_keeper using (true);
create policy session_ends_keep_handed_in on private.session_ends for update to speedcoding_keeper
  using (true) with check (true);
grant select, update (packages, video_url) on private.session_ends to speedcoding_keeper;
create policy submissions_keep_handed_in on public.submissions for insert to speedcoding_keeper with check (true);
grant insert (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages, video_url)
  on public.submissions to speedcoding_keeper;
grant update (status) on public.sessions to speedcoding_keeper;
grant select (passed, pending) on public.milestones to speedcoding_keeper;
-- The only hand that writes them.
drop policy submissions_hand_in on public.submissions;
revoke insert (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages, video_url)
  on public.submissions from speedcoding_writer;

insert into private.session_ends (user_id, session_id, digest)
select user_id, id, end_digest from public.sessions where end_digest is not null;
alter table public.sessions drop column end_digest;

alter table public.sessions add column clock_went_back_ms bigint
  constraint sessions_clock_went_back_ms_counts check (clock_went_back_ms > 0);
comment on column public.sessions.clock_went_back_ms is
  'By how many milliseconds the server''s clock was found behind a time that this session had recorded: its total time is too short by as many or more. Null: it was not.';
grant update (clock_went_back_ms) on public.sessions to speedcoding_writer;

create or replace view public.live_sessions with (security_invoker = true) as
select s.id, s.user_id, s.challenge_id, s.tech_stack, s.tech_stack_key, s.start_time, now_.end_time,
       s.deadline, now_.status,
       private.elapsed_ms(s.start_time, now_.end_time) as total_ms,
       private.display_duration(private.elapsed_ms(s.start_time, now_.end_time)) as total_time,
       s.published, s.clock_went_back_ms
  from public.sessions as s
 cross join lateral (
   select case when overdue then s.deadline else s.end_time end as end_time,
          case when overdue then 'expired'::public.session_status else s.status end as status
     from (select s.status = 'running' and private.clock() >= s.deadline as overdue) as clock
 ) as now_;
comment on column public.live_sessions.clock_went_back_ms is 'As in sessions.';

alter type private.session_result add attribute warnings jsonb;
alter type private.session_result add attribute clock_went_back_ms bigint;

-- A day is 24 hours, whatever the time zone does: what is told as maxDurationMs is what a session is given.
create or replace function private.duration_ms(duration interval) returns bigint
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return floor(extract(epoch from duration) * 1000)::bigint;
end
$$;

comment on function private.duration_ms(interval) is 'Whole milliseconds of a duration without months.';
revoke all on function private.duration_ms(interval) from public, anon, authenticated, service_role;
grant execute on function private.duration_ms(interval) to service_role, speedcoding_writer;

-- A month is now this long, now that.
update public.challenges
   set max_duration = make_interval(secs => extract(epoch from max_duration)::double precision)
 where extract(year from max_duration) <> 0
    or extract(month from max_duration) <> 0;
alter table public.challenges add constraint challenges_max_duration_without_months
  check (extract(year from max_duration) = 0 and extract(month from max_duration) = 0);
comment on column public.challenges.max_duration is
  'A session that runs longer has expired. In days of 24 hours, hours and so on: months have no length of their own.';

-- YouTube, Vimeo and Twitch have many addresses for one video: for embedding, for sharing, for phones. Their addresses
-- without a video (a channel, a playlist, the start page) have no key, and neither have addresses that name two. On other
-- hosts the address itself is the key, as a digest: an address can be longer than an index allows. A recording in Storage
-- is the same object whatever its query is.
create or replace function private.video_key(video_url text) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  host text := lower(substring(video_url from '^https://([^/?#]+)'));
  -- The path and the query.
  rest text := coalesce(substring(video_url from '^https://[^/?#]+([^#]*)'), '');
  id text;
begin
  if host ~ '(^|\.)(youtu\.be|youtube(-nocookie)?\.com)$' then
    id := coalesce(
      case
        when rest !~ '[?&]v=.*&v=' then substring(rest from '^/watch/?\?(?:[^#]*&)?v=([A-Za-z0-9_-]+)(?:&|$)')
      end,
      'clip ' || substring(rest from '^/clip/([A-Za-z0-9_-]+)/?(?:\?|$)'),
      substring(rest from '^/(?:embed|shorts|live|v|e)/([A-Za-z0-9_-]+)/?(?:\?|$)'),
      case when host ~ 'youtu\.be$' then substring(rest from '^/([A-Za-z0-9_-]+)/?(?:\?|$)') end);
    -- These are players of a playlist and of a channel, and pages.
    return 'youtube ' || case when id not in ('videoseries', 'live_stream', 'watch', 'playlist') then id end;
  elsif host ~ '(^|\.)vimeo\.com$' then
    return 'vimeo ' || coalesce(
      'event ' || substring(rest from '^/event/([0-9]+)(?:[/?]|$)'),
      substring(rest from '^/(?:[^?]*/)?(?:videos?|review)/([0-9]+)(?:[/?]|$)'),
      substring(rest from '^/(?:(?:channels|ondemand)/[^/?]+/)?([0-9]+)(?:[/?]|$)'));
  elsif host ~ '(^|\.)twitch\.tv$' then
    return 'twitch ' || case
      when host = 'player.twitch.tv' then substring(rest from '[?&]video=v?([0-9]+)(?:&|$)')
      when host = 'clips.twitch.tv' then coalesce(
        substring(rest from '^/embed\?(?:[^#]*&)?clip=([A-Za-z0-9_-]+)'),
        substring(rest from '^/(?!(?:embed|create)(?:[/?]|$))([A-Za-z0-9_-]+)/?(?:\?|$)'))
      else coalesce(
        substring(rest from '^/(?:videos|[^/?]+/v(?:ideo)?)/([0-9]+)/?(?:\?|$)'),
        substring(rest from '^/[^/?]+/clip/([A-Za-z0-9_-]+)/?(?:\?|$)'))
    end;
  end if;
  return 'url ' || encode(sha256(convert_to(host || coalesce(private.recording_path(video_url), rest), 'UTF8')), 'hex');
end
$$;

comment on function private.video_key(text) is
  'The video that a URL names, such as "youtube dQw4w9WgXcQ". Null for a URL of YouTube, Vimeo or Twitch that names no video.';
revoke all on function private.video_key(text) from public, anon, authenticated, service_role;
grant execute on function private.video_key(text) to service_role, speedcoding_writer, speedcoding_keeper;

alter table public.submissions
  add column video_key text generated always as (private.video_key(video_url)) stored,
  add column claimed_at timestamptz;
comment on column public.submissions.video_key is
  'Which video the URL names, such as "youtube dQw4w9WgXcQ": the same for all its addresses.';
comment on column public.submissions.claimed_at is 'When claimed_by took it: for 30 minutes.';
create index submissions_video_key on public.submissions (video_key, id);
grant update (claimed_at) on public.submissions to speedcoding_writer;

-- So that taking a submission back twice answers as once.
create policy audit_log_withdrawals on private.audit_log for select to speedcoding_writer
  using (action = 'submission.deleted' and user_id = (select private.caller_id()));
grant select (action, user_id, subject_id) on private.audit_log to speedcoding_writer;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer, speedcoding_keeper;

drop function private.end_session(jsonb, uuid, text[], text);
drop function private.update_submission(jsonb, uuid, integer, text[], text);

create or replace function private.last_time(session uuid) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select greatest(s.start_time, (
             select max(greatest(m.completed_at, m.requested_at))
               from public.milestones as m
              where m.session_id = s.id
           ))
      from public.sessions as s
     where s.id = session
  );
end
$$;

comment on function private.last_time(uuid) is
  'The latest time that a session has recorded: its start, a split, a verdict asked for. Nothing that follows is earlier.';
revoke all on function private.last_time(uuid) from public, anon, authenticated, service_role;
grant execute on function private.last_time(uuid) to speedcoding_writer;

create or replace function private.went_back(before bigint, read_at timestamptz, latest timestamptz) returns bigint
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- greatest() ignores nulls.
  return greatest(before, case when read_at < latest then private.elapsed_ms(read_at, latest) end);
end
$$;

comment on function private.went_back(bigint, timestamptz, timestamptz) is
  'The largest number of milliseconds by which the clock was behind a time that it had told before. Null if it never was.';
revoke all on function private.went_back(bigint, timestamptz, timestamptz) from public, anon, authenticated, service_role;
grant execute on function private.went_back(bigint, timestamptz, timestamptz) to speedcoding_writer;

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
  'Why a video cannot be handed in by a runner for a session, as a member of `errors` or `warnings`; null: it can.';
revoke all on function private.video_fault(text, uuid, uuid) from public, anon, authenticated, service_role;
grant execute on function private.video_fault(text, uuid, uuid) to speedcoding_writer;

-- Views call it as whoever reads them, who cannot call other functions from here: hence the time is given.
create or replace function private.claim_expiry(taken public.submissions, at timestamptz) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  expires_at timestamptz := taken.claimed_at + interval '30 minutes';
begin
  return case when taken.claimed_by is not null and expires_at > at then expires_at end;
end
$$;

comment on function private.claim_expiry(public.submissions, timestamptz) is
  'Until when a submission is taken by a moderator: for 30 minutes. Null: nobody has it at that time.';
revoke all on function private.claim_expiry(public.submissions, timestamptz) from
  public, anon, authenticated, service_role;
grant execute on function private.claim_expiry(public.submissions, timestamptz) to
  authenticated, service_role, speedcoding_writer;

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

create or replace function private.describe_challenge(challenge uuid) returns private.challenge_result
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select row(
      c.slug, c.title, c.description, c.required_milestones, c.ordered, c.ranked,
      private.duration_ms(c.max_duration),
      coalesce((
        select jsonb_agg(jsonb_build_object(
                 'number', m.number,
                 'title', m.title,
                 'description', m.description,
                 'verification', m.verification
               ) order by m.number)
          from public.challenge_milestones as m
         where m.challenge_id = c.id
      ), '[]')
    )::private.challenge_result
      from public.challenges as c
     where c.id = challenge
  );
end
$$;

comment on function private.describe_challenge(uuid) is 'A challenge with its milestones.';
revoke all on function private.describe_challenge(uuid) from public, anon, authenticated, service_role;
alter function private.describe_challenge(uuid) owner to speedcoding_writer;

-- The policies apply with the caller's claims, so rows that the caller may not see are missing.
create or replace function private.describe_session(session uuid, refusal jsonb default null)
returns private.session_result
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select row(
      refusal, s.id, s.user_id, challenge.slug, s.tech_stack, s.status::text, s.start_time, s.end_time,
      s.deadline, s.total_ms, s.total_time,
      coalesce((
        select jsonb_agg(jsonb_build_object(
                 'id', m.id,
                 'sessionId', m.session_id,
                 'milestoneNumber', m.milestone_number,
                 'title', definition.title,
                 'passed', m.passed,
                 -- In a session that ended in another way, no verifier will judge any more.
                 'pending', m.pending and s.status in ('running', 'judging'),
                 'completedAt', m.completed_at,
                 'splitMs', private.elapsed_ms(s.start_time, m.completed_at),
                 'attempts', m.attempts,
                 'nextAttemptAt', m.next_attempt_at
               ) order by m.milestone_number)
          from public.milestones as m
          left join public.challenge_milestones as definition
            on definition.challenge_id = s.challenge_id and definition.number = m.milestone_number
         where m.session_id = s.id
      ), '[]'),
      (
        select private.describe_submission(handed_in)
          from public.submissions as handed_in
         where handed_in.session_id = s.id
      ),
      private.clock(),
      -- Only the runner sees these.
      coalesce((
        select e.warnings
          from private.session_ends as e
         where e.user_id = s.user_id
           and e.session_id = s.id
      ), '[]'),
      s.clock_went_back_ms
    )::private.session_result
      from public.live_sessions as s
      join public.challenges as challenge on challenge.id = s.challenge_id
     where s.id = session
  );
end
$$;

comment on function private.describe_session(uuid, jsonb) is
  'A session with its milestones and submission, as far as the caller may see it.';
revoke all on function private.describe_session(uuid, jsonb) from public, anon, authenticated, service_role;
alter function private.describe_session(uuid, jsonb) owner to speedcoding_writer;

create or replace function private.describe_submission(handed_in public.submissions) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  claim_expires_at timestamptz := private.claim_expiry(handed_in, private.clock());
begin
  return jsonb_build_object(
    'id', handed_in.id,
    'sessionId', handed_in.session_id,
    'packages', handed_in.packages,
    'videoUrl', handed_in.video_url,
    'submittedAt', handed_in.submitted_at,
    'status', handed_in.status,
    'revision', handed_in.revision,
    'claimedBy', case when claim_expires_at is not null then handed_in.claimed_by end,
    'claimedAt', case when claim_expires_at is not null then handed_in.claimed_at end,
    'claimExpiresAt', claim_expires_at,
    'reviewReason', case
      when handed_in.status = 'APPROVED' then (
        select r.reason
          from private.reviews as r
         where r.submission_id = handed_in.id
         order by r.id desc
         limit 1
      )
      else handed_in.review_reason
    end,
    'reviewedAt', handed_in.reviewed_at,
    'clockWentBackMs', (
      select s.clock_went_back_ms
        from public.sessions as s
       where s.id = handed_in.session_id
    ),
    'sameVideo', case when private.caller_role() in ('moderator', 'admin') then private.same_video(handed_in) end
  );
end
$$;

comment on function private.describe_submission(public.submissions) is
  'A submission, with the reason of its last review as far as the caller may see it; for moderators also what to look at twice.';
revoke all on function private.describe_submission(public.submissions) from public, anon, authenticated, service_role;
alter function private.describe_submission(public.submissions) owner to speedcoding_writer;

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
  -- A user can make only one start at a time. This lock comes first, because the sign-in may end during the wait.
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

  -- The clock is read after all waiting. Otherwise this session could begin before the end of the last one, if that
  -- was still being ended.
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

    -- The partial unique index refuses a second session that was made without this function (in the dashboard).
    started_at := private.clock();
    insert into public.sessions as s (user_id, challenge_id, tech_stack, start_time, deadline)
    values (runner, chosen.id, start_session.tech_stack, started_at,
            started_at + private.duration_ms(chosen.max_duration) * interval '1 millisecond')
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

create or replace function private.find_over(
  session uuid, status public.session_status, deadline timestamptz, found_at timestamptz
) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if status = 'running' then
    if found_at < deadline then
      return null;
    end if;
    perform private.expire_session(session);
    status := 'expired';
  end if;
  return private.refusal(409,
    case when status = 'expired' then 'session_expired' else 'session_already_ended' end,
    format('This session %s: no milestone can be passed any more.',
      case status when 'judging' then 'has ended and waits for its verdicts' else 'is ' || status end),
    jsonb_build_object('sessionId', session));
end
$$;

comment on function private.find_over(uuid, public.session_status, timestamptz, timestamptz) is
  'Why nothing can be passed any more in a session; null while it runs. An expiry that is found is stored.';
revoke all on function private.find_over(uuid, public.session_status, timestamptz, timestamptz) from
  public, anon, authenticated, service_role;
alter function private.find_over(uuid, public.session_status, timestamptz, timestamptz) owner to speedcoding_writer;

create or replace function private.verify_milestone(
  caller jsonb, session_id uuid, milestone_number integer, answer text default null
) returns private.milestone_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  session record;
  judged_by text;
  tried record;
  checked_at timestamptz;
  over jsonb;
  passes boolean;
  latest timestamptz;
begin
  select s.id, s.challenge_id, s.status, s.deadline, c.ordered
    into session
    from public.sessions as s
    join public.challenges as c on c.id = s.challenge_id
   where s.id = verify_milestone.session_id
     and s.user_id = runner
     for no key update of s;
  if not found then
    perform private.refuse(404, 'session_not_found', 'You have no such session.');
  end if;
  judged_by := private.demand_milestone(session.challenge_id, verify_milestone.milestone_number);

  select m.passed, m.pending, m.attempts, m.next_attempt_at
    into tried
    from public.milestones as m
   where m.session_id = session.id
     and m.milestone_number = verify_milestone.milestone_number;
  -- A retry answers as the first time, even if the session has ended since. A passed milestone stays passed, and a verdict
  -- that was asked for before the end is still to come.
  if tried.passed or tried.pending and session.status = 'judging' then
    return private.describe_milestone(session.id, verify_milestone.milestone_number);
  end if;

  -- The time is read once, after the lock. A request that waited for the lock is later than the one that held it.
  checked_at := private.clock();
  over := private.find_over(session.id, session.status, session.deadline, checked_at);
  if over is not null then
    return jsonb_populate_record(null::private.milestone_result, jsonb_build_object('refusal', over));
  end if;
  latest := private.last_time(session.id);
  if checked_at < latest then
    update public.sessions as s
       set clock_went_back_ms = private.went_back(s.clock_went_back_ms, checked_at, latest)
     where s.id = session.id;
    checked_at := latest;
  end if;
  if session.ordered then
    perform private.demand_turn(session.id, session.challenge_id, verify_milestone.milestone_number);
  end if;
  if tried.pending then
    return private.describe_milestone(session.id, verify_milestone.milestone_number);
  end if;
  if judged_by = 'answer' and verify_milestone.answer is null then
    perform private.refuse(400, 'invalid_request', 'answer is required by this milestone.',
      jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
        'field', 'answer', 'code', 'required', 'message', 'is required by this milestone'))));
  end if;
  -- The lock puts parallel attempts one after another: the first is judged, and the others come too early.
  if tried.next_attempt_at > checked_at then
    perform private.refuse(429, 'attempt_cooldown', 'The last attempt failed: wait until nextAttemptAt for the next.',
      jsonb_build_object(
        'nextAttemptAt', private.moment(tried.next_attempt_at),
        'retryAfter', ceil(extract(epoch from tried.next_attempt_at - checked_at))::integer));
  end if;

  -- Null: a verifier decides later.
  case judged_by
    when 'manual' then
      passes := true;
    when 'answer' then
      passes := private.is_answer(session.id, verify_milestone.milestone_number, verify_milestone.answer);
    when 'verifier' then
      passes := null;
    else
      perform private.refuse_verification(judged_by);
  end case;
  if not passes then
    insert into private.audit_log (action, user_id, subject_id, details)
    values ('milestone.failed', runner, session.id,
            jsonb_build_object('milestoneNumber', verify_milestone.milestone_number));
  end if;
  insert into public.milestones as m
    (session_id, user_id, milestone_number, passed, pending, completed_at, attempts, requested_at, next_attempt_at)
  values (
    session.id, runner, verify_milestone.milestone_number,
    coalesce(passes, false),
    passes is null,
    case when passes then checked_at end,
    coalesce(tried.attempts, 0) + case when passes is null then 0 else 1 end,
    case when passes is null then checked_at end,
    case when not passes then checked_at + private.attempt_cooldown(coalesce(tried.attempts, 0) + 1) end
  )
      on conflict on constraint milestones_session_number_key do update
     set passed = excluded.passed,
         pending = excluded.pending,
         completed_at = excluded.completed_at,
         attempts = excluded.attempts,
         requested_at = excluded.requested_at,
         next_attempt_at = excluded.next_attempt_at;
  return private.describe_milestone(session.id, verify_milestone.milestone_number);
end
$$;

comment on function private.verify_milestone(jsonb, uuid, integer, text) is
  'Passes a milestone of the caller''s running session, judges an answer, or asks for a verifier. For a milestone that is passed it gives the first answer again.';
revoke all on function private.verify_milestone(jsonb, uuid, integer, text) from
  public, anon, authenticated, service_role;
grant execute on function private.verify_milestone(jsonb, uuid, integer, text) to speedcoding_api;
alter function private.verify_milestone(jsonb, uuid, integer, text) owner to speedcoding_writer;

-- The session must be running, or judging: then it ended while this verdict was pending, and the last verdict decides
-- whether it is completed (private.settle_session). The split is the moment when the runner asked for a verifier, so a
-- slow verifier costs the runner nothing.
create or replace function private.attest_milestone(
  caller jsonb, session_id uuid, milestone_number integer, verdict text,
  evidence text default null, checker_version text default null
) returns private.milestone_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  verifier uuid := private.enter(caller);
  session record;
  judged_by text;
  tried record;
  awaited boolean;
  judged_at timestamptz;
  over jsonb;
begin
  select s.id, s.user_id, s.challenge_id, s.status, s.deadline
    into session
    from public.sessions as s
   where s.id = attest_milestone.session_id
     for no key update;
  -- Checked after the lock, so that an earlier demotion counts.
  perform private.demand_role('verifier');
  if session.id is null then
    perform private.refuse(404, 'session_not_found', 'There is no such session.');
  end if;
  if session.user_id = verifier then
    perform private.refuse(403, 'own_run', 'Nobody judges their own run.');
  end if;
  judged_by := private.demand_milestone(session.challenge_id, attest_milestone.milestone_number);

  select m.id, m.passed, m.pending, m.requested_at, m.attempts
    into tried
    from public.milestones as m
   where m.session_id = session.id
     and m.milestone_number = attest_milestone.milestone_number;
  -- A retry answers as the first time.
  if tried.passed and attest_milestone.verdict = 'pass'
    or not tried.passed and not tried.pending and attest_milestone.verdict = 'fail' and (
      select a.verdict = 'fail' and a.attested_by = verifier
        from private.attestations as a
       where a.user_id = session.user_id
         and a.session_id = session.id
         and a.milestone_number = attest_milestone.milestone_number
       order by a.id desc
       limit 1
    )
  then
    -- A session that is judging although no verdict is pending any more is decided by this.
    if session.status = 'judging' then
      update public.milestones as m set pending = false where m.id = tried.id;
    end if;
    return private.describe_milestone(session.id, attest_milestone.milestone_number);
  end if;

  if tried.passed then
    perform private.refuse(409, 'milestone_passed', 'This milestone is passed, and stays passed.');
  end if;
  judged_at := private.clock();
  -- A session that is judging waits for this verdict.
  if session.status <> 'judging' then
    over := private.find_over(session.id, session.status, session.deadline, judged_at);
    if over is not null then
      return jsonb_populate_record(null::private.milestone_result, jsonb_build_object('refusal', over));
    end if;
  end if;
  case judged_by
    when 'verifier' then
      awaited := tried.pending;
    when 'manual', 'answer' then
      awaited := false;
    else
      perform private.refuse_verification(judged_by);
  end case;
  if awaited is not true then
    perform private.refuse(409, 'milestone_not_pending', 'Nobody waits for a verdict on this milestone.');
  end if;

  insert into private.attestations
    (session_id, user_id, milestone_number, verdict, evidence, checker_version, attested_by)
  values (session.id, session.user_id, attest_milestone.milestone_number, attest_milestone.verdict,
          attest_milestone.evidence, attest_milestone.checker_version, verifier);
  insert into private.audit_log (action, user_id, subject_id, details)
  values ('milestone.attested', session.user_id, session.id, jsonb_build_object(
    'milestoneNumber', attest_milestone.milestone_number, 'verdict', attest_milestone.verdict));
  -- An error is not the runner's fault. The milestone goes on waiting for a verdict.
  if attest_milestone.verdict <> 'error' then
    update public.milestones
       set passed = attest_milestone.verdict = 'pass',
           pending = false,
           completed_at = case when attest_milestone.verdict = 'pass' then tried.requested_at end,
           attempts = tried.attempts + 1,
           next_attempt_at = case
             when attest_milestone.verdict = 'fail' then judged_at + private.attempt_cooldown(tried.attempts + 1)
           end
     where id = tried.id;
    if not found then
      raise exception 'milestone % could not be judged', tried.id;
    end if;
  end if;
  return private.describe_milestone(session.id, attest_milestone.milestone_number);
end
$$;

comment on function private.attest_milestone(jsonb, uuid, integer, text, text, text) is
  'A verifier judges a milestone that waits for a verdict. A repeated call gets the first answer.';
revoke all on function private.attest_milestone(jsonb, uuid, integer, text, text, text) from
  public, anon, authenticated, service_role;
grant execute on function private.attest_milestone(jsonb, uuid, integer, text, text, text) to speedcoding_api;
alter function private.attest_milestone(jsonb, uuid, integer, text, text, text) owner to speedcoding_writer;

-- The clock always stops. Packages and videos that the rules forbid are left out, and `warnings` names them. The digest
-- covers what the runner sent, so that a retry can be told from a different end. While verdicts are pending, the session
-- is `judging`, with its end time fixed.
create or replace function private.end_session(
  caller jsonb, session_id uuid, packages text[], video_url text default null,
  kept_packages text[] default null, kept_video_url text default null, warnings jsonb default null
) returns private.session_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  session record;
  payload_digest bytea := sha256(convert_to(
    jsonb_build_array(to_jsonb(end_session.packages), end_session.video_url)::text, 'UTF8'));
  video_fault jsonb;
  passed_count bigint;
  is_pending boolean;
  latest timestamptz;
  ended_at timestamptz;
begin
  select s.id, s.status, s.start_time, s.deadline, c.required_milestones
    into session
    from public.sessions as s
    join public.challenges as c on c.id = s.challenge_id
   where s.id = end_session.session_id
     and s.user_id = runner
     for no key update of s;
  if not found then
    perform private.refuse(404, 'session_not_found', 'You have no such session.');
  end if;

  ended_at := private.clock();
  if session.status = 'running' and ended_at >= session.deadline then
    perform private.expire_session(session.id);
    session.status := 'expired';
  end if;
  if session.status = 'expired' then
    return private.describe_session(session.id, private.refusal(409, 'session_expired',
      'This session ran past its deadline and has expired.', jsonb_build_object('sessionId', session.id)));
  end if;
  if session.status <> 'running' then
    -- A retry answers as the first time.
    if exists (
      select from private.session_ends as e
       where e.user_id = runner
         and e.session_id = session.id
         and e.digest = payload_digest
    ) then
      return private.describe_session(session.id);
    end if;
    perform private.refuse(409, 'session_already_ended', 'This session has already ended; an end that is repeated must send the same data.',
      jsonb_build_object('sessionId', session.id));
  end if;

  -- A replica of an older version sends packages and videos unchecked.
  if warnings is null then
    kept_packages := end_session.packages;
    kept_video_url := end_session.video_url;
  end if;
  video_fault := private.video_fault(kept_video_url, runner, session.id);
  insert into private.session_ends (user_id, session_id, digest, packages, video_url, warnings)
  values (runner, session.id, payload_digest, coalesce(kept_packages, '{}'),
          case when video_fault is null then kept_video_url end,
          coalesce(warnings, '[]') || coalesce(video_fault, '[]'));

  select count(*) filter (where m.passed), coalesce(bool_or(m.pending), false)
    into passed_count, is_pending
    from public.milestones as m
   where m.session_id = session.id;
  latest := private.last_time(session.id);
  -- If this completes the session, triggers hand in what is kept here.
  update public.sessions as s
     set status = case
           when is_pending then 'judging'
           when passed_count >= session.required_milestones then 'completed'
           else 'incomplete'
         end::public.session_status,
         end_time = greatest(ended_at, latest),
         clock_went_back_ms = private.went_back(s.clock_went_back_ms, ended_at, latest)
   where s.id = session.id;
  if not found then
    raise exception 'session % was locked and could not be ended', session.id;
  end if;
  return private.describe_session(session.id);
end
$$;

comment on function private.end_session(jsonb, uuid, text[], text, text[], text, jsonb) is
  'Stops the clock of the caller''s session, once. If enough milestones are passed, it hands in the run with the packages and the video. While a verdict is pending, the session waits for it.';
revoke all on function private.end_session(jsonb, uuid, text[], text, text[], text, jsonb) from
  public, anon, authenticated, service_role;
grant execute on function private.end_session(jsonb, uuid, text[], text, text[], text, jsonb) to speedcoding_api;
alter function private.end_session(jsonb, uuid, text[], text, text[], text, jsonb) owner to speedcoding_writer;

create or replace function private.demand_submission(caller jsonb, submission_id uuid) returns public.submissions
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  moderator uuid := private.enter(caller);
  judged public.submissions;
begin
  select s.*
    into judged
    from public.submissions as s
   where s.id = demand_submission.submission_id
     for no key update;
  -- Asked after the lock: a demotion that came first counts.
  perform private.demand_role('moderator');
  if judged.id is null then
    perform private.refuse(404, 'submission_not_found', 'There is no such submission.');
  end if;
  if judged.user_id = moderator then
    perform private.refuse(403, 'own_run', 'Nobody judges their own run.');
  end if;
  -- Who is no moderator any more has nothing taken, nor who has taken it too long ago.
  if judged.claimed_by <> moderator
    and private.claim_expiry(judged, private.clock()) is not null
    and private.caller_role() <> 'admin'
    and exists (
      select from public.users as u
       where u.id = judged.claimed_by
         and u.role in ('moderator', 'admin')
         and u.banned_at is null
    )
  then
    perform private.refuse(409, 'submission_claimed', 'Another moderator has taken this submission.',
      jsonb_build_object('claimedBy', judged.claimed_by,
        'claimExpiresAt', private.moment(private.claim_expiry(judged, private.clock()))));
  end if;
  return judged;
end
$$;

comment on function private.demand_submission(jsonb, uuid) is
  'The submission, locked, that the caller is going to judge; refuses who is no moderator, its runner, and who has not taken it while another has.';
revoke all on function private.demand_submission(jsonb, uuid) from public, anon, authenticated, service_role;
alter function private.demand_submission(jsonb, uuid) owner to speedcoding_writer;

create or replace function private.claim_submission(caller jsonb, submission_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  judged public.submissions := private.demand_submission(caller, submission_id);
begin
  perform private.demand_pending(judged);
  -- A repeated claim answers as the first time while the claim lasts.
  if judged.claimed_by is distinct from private.caller_id() or private.claim_expiry(judged, private.clock()) is null then
    update public.submissions as s
       set claimed_by = private.caller_id(), claimed_at = private.clock()
     where s.id = judged.id
    returning s.* into judged;
  end if;
  return private.describe_submission(judged);
end
$$;

comment on function private.claim_submission(jsonb, uuid) is 'A moderator claims a pending submission. For 30 minutes no other moderator can judge it.';
revoke all on function private.claim_submission(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.claim_submission(jsonb, uuid) to speedcoding_api;
alter function private.claim_submission(jsonb, uuid) owner to speedcoding_writer;

create or replace function private.update_submission(
  caller jsonb, submission_id uuid, revision integer, packages text[] default null, video_url text default null,
  clear_video_url boolean default false
) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  handed_in public.submissions;
  video_fault jsonb;
begin
  select s.*
    into handed_in
    from public.submissions as s
   where s.id = update_submission.submission_id
     and s.user_id = runner
     for no key update;
  if not found then
    perform private.refuse(404, 'submission_not_found', 'You have no such submission.');
  end if;
  if handed_in.status = 'APPROVED' then
    perform private.refuse(409, 'submission_approved', 'An approved submission cannot be edited.');
  end if;
  perform private.demand_revision(handed_in, update_submission.revision);
  video_fault := private.video_fault(update_submission.video_url, runner, handed_in.session_id);
  if video_fault is not null then
    perform private.refuse(400, 'invalid_request', format('videoUrl %s.', video_fault ->> 'message'),
      jsonb_build_object('errors', jsonb_build_array(video_fault)));
  end if;
  update public.submissions as s
     set packages = coalesce(update_submission.packages, s.packages),
         video_url = case
           when not clear_video_url then coalesce(update_submission.video_url, s.video_url)
         end,
         status = 'PENDING'
   where s.id = handed_in.id
  returning s.* into handed_in;
  if not found then
    raise exception 'submission % could not be edited', submission_id;
  end if;
  return private.describe_submission(handed_in);
end
$$;

comment on function private.update_submission(jsonb, uuid, integer, text[], text, boolean) is
  'Edits the caller''s own submission until it is approved; one that was rejected is handed in again.';
revoke all on function private.update_submission(jsonb, uuid, integer, text[], text, boolean) from
  public, anon, authenticated, service_role;
grant execute on function private.update_submission(jsonb, uuid, integer, text[], text, boolean) to speedcoding_api;
alter function private.update_submission(jsonb, uuid, integer, text[], text, boolean) owner to speedcoding_writer;

-- The session stays completed in its runner's list, and cannot be handed in again. The moderators' notes are deleted with
-- the submission. The audit log keeps what happened. Boards do not change, because approved ones cannot be withdrawn.
create or replace function private.withdraw_submission(caller jsonb, submission_id uuid) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  handed_in record;
begin
  select s.id, s.status
    into handed_in
    from public.submissions as s
   where s.id = withdraw_submission.submission_id
     and s.user_id = runner
     for update;
  if not found then
    -- A repeated call answers as the first time.
    if not exists (
      select from private.audit_log as log
       where log.action = 'submission.deleted'
         and log.subject_id = withdraw_submission.submission_id
         and log.user_id = runner
    ) then
      perform private.refuse(404, 'submission_not_found', 'You have no such submission.');
    end if;
    return;
  end if;
  if handed_in.status = 'APPROVED' then
    perform private.refuse(409, 'submission_approved', 'An approved submission cannot be withdrawn: ask a moderator to reopen it.');
  end if;
  delete from public.submissions as s where s.id = handed_in.id;
end
$$;

comment on function private.withdraw_submission(jsonb, uuid) is
  'Takes back the caller''s own submission, unless it is approved.';
revoke all on function private.withdraw_submission(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.withdraw_submission(jsonb, uuid) to speedcoding_api;
alter function private.withdraw_submission(jsonb, uuid) owner to speedcoding_writer;

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
         and (s.status in ('running', 'judging') or handed_in.status in ('PENDING', 'REJECTED'))
    );
end
$$;

comment on function private.may_upload_recording(text) is
  'Whether a path lies in the folder of a session of the caller that runs or is being judged, or whose submission can still be changed.';
revoke all on function private.may_upload_recording(text) from public, anon, authenticated, service_role;
grant execute on function private.may_upload_recording(text) to authenticated;
alter function private.may_upload_recording(text) owner to speedcoding_writer;

-- The last pending verdict decides a session that has ended. This locks the session before it reads the milestones, so
-- that of two verdicts at once the second sees the first. It locks a running session, too: its end may come at the same
-- moment, and then either the end sees this verdict, or this sees the end.
create or replace function private.settle_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  session record;
begin
  select s.status, c.required_milestones
    into session
    from public.sessions as s
    join public.challenges as c on c.id = s.challenge_id
   where s.id = old.session_id
     for no key update of s;
  if session.status is distinct from 'judging'
    or exists (select from public.milestones where session_id = old.session_id and pending)
  then
    return null;
  end if;
  update public.sessions
     set status = case
           when (select count(*) from public.milestones where session_id = old.session_id and passed) >= session.required_milestones
             then 'completed'
           else 'incomplete'
         end::public.session_status
   where id = old.session_id;
  return null;
end
$$;

comment on function private.settle_session() is
  'Makes a session that is judging completed or incomplete, once no milestone of it is pending any more.';
revoke all on function private.settle_session() from public, anon, authenticated, service_role;
alter function private.settle_session() owner to speedcoding_keeper;

-- What came with the end is kept until now, and then no longer: the submission has it.
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

comment on function private.hand_in_session() is 'Hands in what came with the end of a session that is completed.';
revoke all on function private.hand_in_session() from public, anon, authenticated, service_role;
alter function private.hand_in_session() owner to speedcoding_keeper;

create or replace function private.guard_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  judging_refusal constant text :=
    'A session becomes judging when its runner ends it while a verdict is pending, and in no other way.';
begin
  -- Only triggers set `published`: it follows the submission.
  if tg_op = 'INSERT' then
    new.published := false;
    if new.status = 'judging' then
      perform private.refuse(409, 'session_fixed', judging_refusal);
    end if;
    return new;
  end if;
  if new.published <> old.published and pg_trigger_depth() = 1 then
    perform private.refuse(409, 'session_fixed',
      'A session is shown to everyone while its submission is APPROVED: change that instead of published.');
  end if;
  if (new.id, new.user_id, new.challenge_id) is distinct from (old.id, old.user_id, old.challenge_id) then
    perform private.refuse(409, 'session_fixed', 'A session keeps its id, its runner and its challenge.');
  end if;
  if old.status <> 'running' and new.status = 'running' then
    perform private.refuse(409, 'session_already_ended', 'A session that is over cannot run again.');
  end if;
  -- Only the runner's end knows what is to be handed in after the last verdict.
  if old.status <> 'judging' and new.status = 'judging' and (
    old.status <> 'running'
    or not exists (select from private.session_ends where user_id = new.user_id and session_id = new.id)
    or not exists (select from public.milestones where session_id = new.id and pending)
  ) then
    perform private.refuse(409, 'session_fixed', judging_refusal);
  end if;
  if (new.status = 'running') <> (new.end_time is null) then
    perform private.refuse(409, 'session_times', 'A session that is over has an end_time, one that is running has none.');
  end if;
  if new.end_time < new.start_time then
    perform private.refuse(409, 'session_times', 'A session cannot end before it starts.');
  end if;
  -- Rows that were like this before may stay. Only a change that makes it so is refused.
  if (new.start_time > old.start_time or new.end_time < old.end_time)
    and exists (
      select from public.milestones
       where session_id = new.id
         and (completed_at < new.start_time or completed_at > new.end_time)
    )
  then
    perform private.refuse(409, 'session_times',
      'A session starts before its first milestone is passed and ends after its last: correct their completed_at first.');
  end if;
  if old.status = 'completed' and new.status <> 'completed'
    and exists (select from public.submissions where session_id = new.id)
  then
    perform private.refuse(409, 'session_handed_in',
      'This session has handed in, so it stays completed; delete its submission first.');
  end if;
  return new;
end
$$;

comment on function private.guard_session() is 'Refuses changes to a session that history does not allow.';
revoke all on function private.guard_session() from public, anon, authenticated, service_role;
alter function private.guard_session() owner to speedcoding_keeper;

create or replace function private.guard_submission() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  moved boolean := new.status <> old.status;
  edited boolean := (new.packages, new.video_url) is distinct from (old.packages, old.video_url);
  by_runner boolean := private.caller_id() = new.user_id;
begin
  if (new.id, new.session_id, new.user_id, new.challenge_id)
    is distinct from (old.id, old.session_id, old.user_id, old.challenge_id)
  then
    perform private.refuse(409, 'submission_fixed',
      'A submission keeps its id, its session, its runner and its challenge.');
  end if;
  if (new.tech_stack, new.tech_stack_key, new.total_ms, new.end_time)
      is distinct from (old.tech_stack, old.tech_stack_key, old.total_ms, old.end_time)
    and not exists (
      select from public.sessions as s
       where s.id = new.session_id
         and (s.tech_stack, s.tech_stack_key, s.total_ms, s.end_time)
           is not distinct from (new.tech_stack, new.tech_stack_key, new.total_ms, new.end_time)
    )
  then
    perform private.refuse(409, 'submission_fixed',
      'A submission takes its tech stack and its times from its session: correct them there.');
  end if;
  if old.status = 'APPROVED' and edited then
    perform private.refuse(409, 'submission_approved',
      'An approved submission cannot be edited; set it back to PENDING first.');
  end if;
  if moved and 'PENDING' not in (old.status, new.status) then
    perform private.refuse(409, 'submission_already_reviewed', format(
      'A submission that is %s cannot become %s at once; set it back to PENDING first.', old.status, new.status));
  end if;
  if new.user_id in (new.claimed_by, new.reviewed_by) or moved and by_runner and (old.status, new.status) <> ('REJECTED', 'PENDING') then
    perform private.refuse(403, 'own_run', 'Nobody judges their own run.');
  end if;
  if new.status = 'APPROVED' and new.video_url is null then
    perform private.refuse(409, 'video_required', 'A run without a recording cannot be approved: video_url is empty.');
  end if;
  if new.status = 'REJECTED' and coalesce(new.review_reason, '') !~ '\S' then
    perform private.refuse(409, 'reason_required', 'A rejection needs a reason that its runner can read: fill in review_reason.');
  end if;

  new.revision := old.revision + (edited or moved and new.status = 'PENDING')::integer;
  if not moved then
    new.reviewed_at := old.reviewed_at;
    if new.status <> 'PENDING' and new.claimed_by is not null then
      perform private.refuse(409, 'submission_already_reviewed', format('This submission is %s: there is nothing to claim.', new.status));
    end if;
  elsif new.status = 'PENDING' then
    new.claimed_by := null;
    new.reviewed_by := null;
    new.reviewed_at := null;
    if by_runner then
      new.submitted_at := private.clock();
    end if;
  else
    new.claimed_by := null;
    new.reviewed_by := coalesce(new.reviewed_by, private.caller_id());
    new.reviewed_at := private.clock();
  end if;
  if new.claimed_by is null then
    new.claimed_at := null;
  elsif new.claimed_by is distinct from old.claimed_by then
    new.claimed_at := private.clock();
  end if;
  return new;
end
$$;

comment on function private.guard_submission() is 'Refuses what neither runners nor moderators may do with a submission, and keeps its dates and its revision.';
revoke all on function private.guard_submission() from public, anon, authenticated, service_role;
alter function private.guard_submission() owner to speedcoding_keeper;

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
  -- If there is no session, the foreign key refuses the row. An import may insert both in one statement.
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
  if new.claimed_by is not null then
    new.claimed_at := coalesce(new.claimed_at, private.clock());
  end if;
  return new;
end
$$;

comment on function private.complete_submission() is
  'Copies the run of a new submission from its session, and refuses a second one or one without a completed session.';
revoke all on function private.complete_submission() from public, anon, authenticated, service_role;
alter function private.complete_submission() owner to speedcoding_keeper;

-- Runs before the update and after the guard. A row that everyone may read must not have the moderator's notes, and only
-- a trigger before the update can take them out.
create or replace function private.record_submission() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  subject public.submissions := case when tg_op = 'DELETE' then old else new end;
  happened text := case tg_op when 'INSERT' then 'handed_in' when 'DELETE' then 'deleted' end;
begin
  if tg_op = 'UPDATE' then
    happened := case
      when new.status <> old.status and new.status <> 'PENDING' then lower(new.status::text)
      when new.status <> old.status and private.caller_id() = new.user_id then 'resubmitted'
      when new.status <> old.status then 'reopened'
      when new.revision <> old.revision then 'edited'
      when new.claimed_by is distinct from old.claimed_by and new.claimed_by is null then 'released'
      when new.claimed_by is distinct from old.claimed_by or new.claimed_at <> old.claimed_at then 'claimed'
      -- Generated columns have no value yet, and the log itself says when a submission was claimed.
      when to_jsonb(new) - '{total_time,video_key,claimed_at}'::text[]
        is distinct from to_jsonb(old) - '{total_time,video_key,claimed_at}'::text[] then 'corrected'
    end;
    if happened in ('approved', 'rejected', 'reopened') then
      insert into private.reviews (submission_id, user_id, revision, decision, reason, reviewed_by)
      values (new.id, new.user_id, new.revision, upper(happened), nullif(btrim(new.review_reason), ''),
              case when happened = 'reopened' then private.caller_id() else new.reviewed_by end);
    end if;
  end if;
  if happened is not null then
    insert into private.audit_log (action, user_id, subject_id, details)
    values ('submission.' || happened, subject.user_id, subject.id, jsonb_strip_nulls(jsonb_build_object(
      'revision', subject.revision, 'status', subject.status,
      'claimedBy', subject.claimed_by, 'reviewedBy', subject.reviewed_by)));
  end if;
  if tg_op = 'UPDATE' and new.status = 'APPROVED' then
    new.claimed_by := null;
    new.reviewed_by := null;
    new.review_reason := null;
  end if;
  return new;
end
$$;

comment on function private.record_submission() is
  'Writes each change of a submission into the audit log, and each decision into private.reviews. Takes the notes out of a row that is approved.';
revoke all on function private.record_submission() from public, anon, authenticated, service_role;
alter function private.record_submission() owner to speedcoding_keeper;

-- Names all reasons at once: those that the caller gives, and the runs under way if the rules would change.
create or replace function private.demand_editable(challenge uuid, fixed text, touches_rules boolean) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  reasons text := fixed;
  last_deadline timestamptz;
  is_judging boolean;
begin
  if touches_rules then
    select max(s.deadline) filter (where s.status = 'running'), coalesce(bool_or(s.status = 'judging'), false)
      into last_deadline, is_judging
      from public.sessions as s
     where s.challenge_id = challenge
       and (s.status = 'running' and s.deadline > private.clock() or s.status = 'judging');
  end if;
  if is_judging then
    reasons := concat_ws(' ', nullif(reasons, ''),
      'Runs of this challenge wait for verdicts, and their rules stay as they are until the last one.');
  end if;
  if last_deadline is not null then
    reasons := concat_ws(' ', nullif(reasons, ''), format(
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

revoke create on schema private from speedcoding_writer, speedcoding_keeper;

create trigger milestones_settle after update on public.milestones
  for each row when (not new.pending) execute function private.settle_session();
create trigger milestones_settle_delete after delete on public.milestones
  for each row when (old.pending) execute function private.settle_session();
drop trigger sessions_guard_insert on public.sessions;
create trigger sessions_guard_insert before insert on public.sessions
  for each row when (new.published or new.status = 'judging') execute function private.guard_session();
create trigger sessions_hand_in after update on public.sessions
  for each row when (old.status <> 'completed' and new.status = 'completed')
  execute function private.hand_in_session();

-- What is taken at this moment stays taken, from now on.
update public.submissions set claimed_at = private.clock() where claimed_by is not null;

create or replace view public.review_queue with (security_invoker = true) as
select u.id, u.submitted_at,
       date_trunc('minute', private.clock() - u.submitted_at) as waiting,
       challenge.slug as challenge, runner.username as runner, s.tech_stack, s.total_time, u.video_url, u.packages,
       moderator.username as claimed_by, u.revision, u.session_id, u.user_id,
       claim.expires_at as claim_expires_at, s.clock_went_back_ms, private.same_video(u) as same_video
  from public.submissions as u
  join public.sessions as s on s.id = u.session_id
  join public.users as runner on runner.id = u.user_id
 cross join lateral private.claim_expiry(u, private.clock()) as claim (expires_at)
  left join public.challenges as challenge on challenge.id = u.challenge_id
  left join public.users as moderator on moderator.id = u.claimed_by and claim.expires_at is not null
 where u.status = 'PENDING'
 order by u.submitted_at, u.id;
comment on column public.review_queue.claim_expires_at is 'Until when that moderator has it; then anybody may take it.';
comment on column public.review_queue.clock_went_back_ms is
  'The server''s clock went back during the run, by so many milliseconds or more: its time is too short. Empty: it did not.';
comment on column public.review_queue.same_video is 'Other runners'' submissions with the same video.';
