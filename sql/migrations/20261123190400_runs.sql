-- Sessions, their milestones and their submissions: who sees and writes which row.

create type public.session_status as enum ('running', 'completed', 'incomplete', 'abandoned', 'expired');
comment on type public.session_status is
  'running; completed: ended with enough milestones; incomplete: without; abandoned: given up; expired: past its deadline.';
create type public.submission_status as enum ('PENDING', 'APPROVED', 'REJECTED');
comment on type public.submission_status is 'What moderators made of it.';

create table public.sessions (
  id uuid primary key default private.uuid_v7(),
  user_id uuid not null references public.users (id) on delete cascade,
  challenge_id uuid not null references public.challenges (id),
  tech_stack text not null constraint sessions_tech_stack_length
    check (length(tech_stack) between 1 and 100)
    -- No control characters, and none that turns the direction of what follows.
    constraint sessions_tech_stack_plain
    check (tech_stack !~ '[\u0001-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]'),
  tech_stack_key text not null generated always as (private.tech_stack_key(tech_stack)) stored,
  start_time timestamptz not null default private.clock(),
  end_time timestamptz,
  deadline timestamptz not null,
  status public.session_status not null default 'running',
  total_ms bigint generated always as (private.elapsed_ms(start_time, end_time)) stored,
  total_time text
    generated always as (private.display_duration(private.elapsed_ms(start_time, end_time))) stored,
  published boolean not null default false,
  end_digest bytea,
  -- Referenced by milestones and submissions, so that their user_id cannot differ; also serves a user's list.
  constraint sessions_user_id_id_key unique (user_id, id),
  -- A character may fold to many: a key must fit an index.
  constraint sessions_tech_stack_key_length check (octet_length(tech_stack_key) between 1 and 1000),
  constraint sessions_end_time_after_start_time check (end_time >= start_time),
  -- Nor may an infinite time, or one that clients cannot read, get in through the dashboard.
  constraint sessions_start_time_range
    check (start_time between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00'),
  constraint sessions_end_time_range check (end_time <= start_time + interval '31 days'),
  constraint sessions_deadline_range check (deadline > start_time and deadline <= start_time + interval '31 days'),
  constraint sessions_over_with_end_time check ((status = 'running') = (end_time is null))
);
-- One running session a user: of any number of parallel starts one wins.
create unique index sessions_running_key on public.sessions (user_id) where status = 'running';
create index sessions_challenge_id on public.sessions (challenge_id);

comment on table public.sessions is
  'Timed attempts. A running one past its deadline is over: the view live_sessions computes that.';
comment on column public.sessions.id is 'UUIDv7.';
comment on column public.sessions.user_id is 'The runner.';
comment on column public.sessions.challenge_id is 'What is being built.';
comment on column public.sessions.tech_stack is 'With what, in the runner''s words.';
comment on column public.sessions.tech_stack_key is 'The stack''s board: normalised, sorted, without duplicates.';
comment on column public.sessions.start_time is 'The server''s time of the start.';
comment on column public.sessions.end_time is 'The server''s time of the end; null while running.';
comment on column public.sessions.deadline is 'From then on the session has expired.';
comment on column public.sessions.status is 'What became of it.';
comment on column public.sessions.total_ms is 'Milliseconds from start to end: what boards rank.';
comment on column public.sessions.total_time is 'The same for people: 45m 12s.';
comment on column public.sessions.published is 'Whether its submission is approved, so that everyone sees it.';
comment on column public.sessions.end_digest is 'SHA-256 of what ended it, so that a retry is told from another end.';

create table public.milestones (
  id uuid primary key default private.uuid_v7(),
  session_id uuid not null,
  user_id uuid not null,
  milestone_number integer not null
    constraint milestones_number_range check (milestone_number between 1 and 1000),
  passed boolean not null default false,
  pending boolean not null default false,
  completed_at timestamptz,
  attempts integer not null default 0 constraint milestones_attempts_count check (attempts >= 0),
  requested_at timestamptz,
  next_attempt_at timestamptz,
  published boolean not null default false,
  constraint milestones_session_number_key unique (session_id, milestone_number),
  constraint milestones_session_fkey foreign key (user_id, session_id)
    references public.sessions (user_id, id) on delete cascade,
  constraint milestones_passed_with_time check (passed = (completed_at is not null)),
  constraint milestones_pending_not_passed check (not (pending and passed)),
  constraint milestones_pending_since check (requested_at is not null or not pending)
);
create index milestones_user_id_session_id on public.milestones (user_id, session_id);

comment on table public.milestones is 'What a session passed, or tried, of its challenge''s milestones.';
comment on column public.milestones.id is 'UUIDv7.';
comment on column public.milestones.session_id is 'The session.';
comment on column public.milestones.user_id is 'The session''s runner.';
comment on column public.milestones.milestone_number is 'Which milestone of the challenge.';
comment on column public.milestones.passed is 'Passed stays passed.';
comment on column public.milestones.pending is 'Waiting for a verifier.';
comment on column public.milestones.completed_at is 'The server''s time when it was passed: the split.';
comment on column public.milestones.attempts is 'How often it was judged.';
comment on column public.milestones.requested_at is 'When the runner last asked for a verifier: the split, if that passes it.';
comment on column public.milestones.next_attempt_at is 'Before then attempts are refused unjudged.';
comment on column public.milestones.published is 'As its session''s.';

create table public.submissions (
  id uuid primary key default private.uuid_v7(),
  session_id uuid not null constraint submissions_session_id_key unique,
  user_id uuid not null,
  challenge_id uuid not null references public.challenges (id),
  tech_stack text not null,
  tech_stack_key text not null,
  total_ms bigint not null,
  total_time text generated always as (private.display_duration(total_ms)) stored,
  end_time timestamptz not null,
  packages text[] not null default '{}'
    constraint submissions_packages_form check (private.packages_valid(packages)),
  video_url text constraint submissions_video_url_form
    check (length(video_url) <= 2048 and video_url ~ '^https://[^[:space:][:cntrl:]]+$'),
  submitted_at timestamptz not null default private.clock(),
  status public.submission_status not null default 'PENDING',
  revision integer not null default 1 constraint submissions_revision_counts check (revision > 0),
  claimed_by uuid references public.users (id) on delete set null,
  reviewed_by uuid references public.users (id) on delete set null,
  reviewed_at timestamptz,
  review_reason text constraint submissions_review_reason_length check (length(review_reason) <= 2000),
  constraint submissions_session_fkey foreign key (user_id, session_id)
    references public.sessions (user_id, id) on delete cascade,
  -- The same columns once more: so that PostgREST embeds a session's submission as one, not as a list.
  constraint submissions_user_id_session_id_key unique (user_id, session_id),
  constraint submissions_approved_with_video check (status <> 'APPROVED' or video_url is not null),
  -- Everyone reads an approved row, `select *` included: what moderators noted is not in it (private.reviews).
  constraint submissions_approved_without_notes
    check (status <> 'APPROVED' or (claimed_by is null and reviewed_by is null and review_reason is null)),
  constraint submissions_rejected_with_reason
    check (status <> 'REJECTED' or coalesce(review_reason, '') ~ '\S'),
  constraint submissions_reviewed_by_another check (reviewed_by <> user_id),
  constraint submissions_claimed_by_another check (claimed_by <> user_id)
);
-- The review queue, oldest first: of a challenge, of all, whatever the status.
create index submissions_queue on public.submissions (challenge_id, status, submitted_at, id);
-- By status alone, oldest first. Under row-level security no condition on an enum is one of an index (its operator is
-- not leakproof): an index for each status is found all the same.
create index submissions_pending on public.submissions (submitted_at, id) where status = 'PENDING';
create index submissions_rejected on public.submissions (submitted_at, id) where status = 'REJECTED';
create index submissions_submitted_at on public.submissions (submitted_at, id);
create index submissions_claimed_by on public.submissions (claimed_by);
create index submissions_reviewed_by on public.submissions (reviewed_by);

comment on table public.submissions is 'What a completed session hands in, and what moderators made of it.';
comment on column public.submissions.id is 'UUIDv7.';
comment on column public.submissions.session_id is 'The completed session; one submission each.';
comment on column public.submissions.user_id is 'The session''s runner.';
comment on column public.submissions.challenge_id is 'The session''s challenge.';
comment on column public.submissions.tech_stack is 'Copied from the session by a trigger.';
comment on column public.submissions.tech_stack_key is 'Copied from the session by a trigger.';
comment on column public.submissions.total_ms is 'Copied from the session by a trigger.';
comment on column public.submissions.total_time is 'The same for people: 45m 12s.';
comment on column public.submissions.end_time is 'Copied from the session by a trigger.';
comment on column public.submissions.packages is 'At most 200 names of packages used, each 1 to 214 characters.';
comment on column public.submissions.video_url is 'The recording, https; needed for an approval.';
comment on column public.submissions.submitted_at is 'When it was handed in, or handed in again after a rejection.';
comment on column public.submissions.status is 'PENDING may become APPROVED or REJECTED, and either PENDING again.';
comment on column public.submissions.revision is 'Counts changes of packages and video, and returns to PENDING: a review names the one it saw.';
comment on column public.submissions.claimed_by is 'The moderator who has taken it, while it is PENDING.';
comment on column public.submissions.reviewed_by is 'Who decides, never the runner: kept in private.reviews and in the audit log, here while it is not public.';
comment on column public.submissions.reviewed_at is 'When it was decided; set by a trigger.';
comment on column public.submissions.review_reason is 'Why it was rejected or reopened; kept in private.reviews, here while it is not public.';

create table private.reviews (
  id uuid primary key default private.uuid_v7(),
  submission_id uuid not null references public.submissions (id) on delete cascade,
  user_id uuid not null,
  revision integer not null,
  decision text not null constraint reviews_decision_known check (decision in ('APPROVED', 'REJECTED', 'REOPENED')),
  reason text,
  reviewed_by uuid references public.users (id) on delete set null,
  reviewed_at timestamptz not null default private.clock()
);
create index reviews_submission_id on private.reviews (submission_id, id);
create index reviews_reviewed_by on private.reviews (reviewed_by);

comment on table private.reviews is 'Every decision of moderators, with what they noted; written by a trigger.';
comment on column private.reviews.id is 'UUIDv7: in the order of time.';
comment on column private.reviews.submission_id is 'What was decided on.';
comment on column private.reviews.user_id is 'Its runner, who may read the reason.';
comment on column private.reviews.revision is 'The revision that was decided on; that which begins, where it was reopened.';
comment on column private.reviews.decision is 'APPROVED, REJECTED, or REOPENED: set back to PENDING.';
comment on column private.reviews.reason is 'Why, in the moderator''s words.';
comment on column private.reviews.reviewed_by is 'The moderator, where known.';
comment on column private.reviews.reviewed_at is 'The server''s time of the decision.';

revoke all on public.sessions, public.milestones, public.submissions, private.reviews from
  public, anon, authenticated, service_role;
alter table private.reviews enable row level security;
alter table public.sessions enable row level security;
alter table public.milestones enable row level security;
alter table public.submissions enable row level security;
grant select on public.sessions, public.milestones, public.submissions to
  anon, authenticated, speedcoding_writer;
grant select, insert, update, delete on public.sessions, public.milestones, public.submissions to
  service_role;

-- The domain functions (speedcoding_writer) read under the very policies of the clients: a faulty function
-- can show nobody more than PostgREST would.

-- Runners see their own sessions, moderators and verifiers all, everyone the published ones.
create policy sessions_read on public.sessions for select to anon, authenticated, speedcoding_writer
  using (
    user_id = (select auth.uid())
    or published
    or (select private.caller_role()) in ('moderator', 'verifier', 'admin')
  );
-- Runners start and end their own sessions, through the functions; verifiers lock the one that they judge, and
-- store that it has expired.
create policy sessions_start on public.sessions for insert to speedcoding_writer
  with check (user_id = (select auth.uid()));
create policy sessions_end on public.sessions for update to speedcoding_writer
  using (user_id = (select auth.uid()) or (select private.caller_role()) in ('verifier', 'admin'))
  with check (user_id = (select auth.uid()) or status = 'expired' and (select private.caller_role()) in ('verifier', 'admin'));
grant insert (user_id, challenge_id, tech_stack, start_time, deadline) on public.sessions
  to speedcoding_writer;
grant update (status, end_time, end_digest) on public.sessions to speedcoding_writer;

-- Milestones are seen with their session.
create policy milestones_read on public.milestones for select to anon, authenticated, speedcoding_writer
  using (
    user_id = (select auth.uid())
    or published
    or (select private.caller_role()) in ('moderator', 'verifier', 'admin')
  );
-- Runners pass and try their own milestones, through the functions; verifiers judge others'.
create policy milestones_pass on public.milestones for insert to speedcoding_writer
  with check (user_id = (select auth.uid()));
create policy milestones_judge on public.milestones for update to speedcoding_writer
  using (user_id = (select auth.uid()) or (select private.caller_role()) in ('verifier', 'admin'))
  with check (user_id = (select auth.uid()) or (select private.caller_role()) in ('verifier', 'admin'));
grant insert (session_id, user_id, milestone_number, passed, pending, completed_at, attempts, requested_at, next_attempt_at),
      update (passed, pending, completed_at, attempts, requested_at, next_attempt_at)
  on public.milestones to speedcoding_writer;

-- Runners see their own submissions, moderators all, everyone the approved ones.
create policy submissions_read on public.submissions for select to anon, authenticated, speedcoding_writer
  using (
    user_id = (select auth.uid())
    or status = 'APPROVED'
    or (select private.caller_role()) in ('moderator', 'admin')
  );
-- Runners hand in their own, and edit it until it is approved; moderators judge others'.
create policy submissions_hand_in on public.submissions for insert to speedcoding_writer
  with check (user_id = (select auth.uid()) and status = 'PENDING');
create policy submissions_judge on public.submissions for update to speedcoding_writer
  using (user_id = (select auth.uid()) or (select private.caller_role()) in ('moderator', 'admin'))
  with check (
    case
      when user_id = (select auth.uid()) then status = 'PENDING'
      else (select private.caller_role()) in ('moderator', 'admin')
    end
  );
grant update (packages, video_url, status, claimed_by, reviewed_by, review_reason) on public.submissions
  to speedcoding_writer;
grant insert (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages, video_url)
  on public.submissions to speedcoding_writer;

-- What was noted is for the runner and for moderators.
create policy reviews_read on private.reviews for select to speedcoding_writer
  using (user_id = (select private.caller_id()) or (select private.caller_role()) in ('moderator', 'admin'));
create policy reviews_record on private.reviews for insert to speedcoding_keeper with check (true);
grant select on private.reviews to speedcoding_writer;
grant insert (submission_id, user_id, revision, decision, reason, reviewed_by) on private.reviews to speedcoding_keeper;

-- Triggers (speedcoding_keeper) carry what is derived, whoever writes: the API, the dashboard, a cascade.
create policy sessions_keep on public.sessions for select to speedcoding_keeper using (true);
create policy sessions_keep_published on public.sessions for update to speedcoding_keeper
  using (true) with check (true);
grant select, update (published) on public.sessions to speedcoding_keeper;
create policy milestones_keep on public.milestones for select to speedcoding_keeper using (true);
create policy milestones_keep_published on public.milestones for update to speedcoding_keeper
  using (true) with check (true);
grant select (session_id), update (published) on public.milestones to speedcoding_keeper;
create policy submissions_keep on public.submissions for select to speedcoding_keeper using (true);
create policy submissions_keep_copies on public.submissions for update to speedcoding_keeper
  using (true) with check (true);
grant select, update (tech_stack, tech_stack_key, total_ms, end_time) on public.submissions to speedcoding_keeper;

-- Sessions as they are at this moment: past its deadline a session has expired, whether or not a write
-- has found and stored it yet.
create view public.live_sessions with (security_invoker = true) as
select s.id, s.user_id, s.challenge_id, s.tech_stack, s.tech_stack_key, s.start_time, now_.end_time,
       s.deadline, now_.status,
       private.elapsed_ms(s.start_time, now_.end_time) as total_ms,
       private.display_duration(private.elapsed_ms(s.start_time, now_.end_time)) as total_time,
       s.published
  from public.sessions as s
 cross join lateral (
   select case when overdue then s.deadline else s.end_time end as end_time,
          case when overdue then 'expired'::public.session_status else s.status end as status
     from (select s.status = 'running' and private.clock() >= s.deadline as overdue) as clock
 ) as now_;
comment on view public.live_sessions is 'Sessions as they are now: one past its deadline reads as expired.';
comment on column public.live_sessions.id is 'As in sessions.';
comment on column public.live_sessions.user_id is 'As in sessions.';
comment on column public.live_sessions.challenge_id is 'As in sessions.';
comment on column public.live_sessions.tech_stack is 'As in sessions.';
comment on column public.live_sessions.tech_stack_key is 'As in sessions.';
comment on column public.live_sessions.start_time is 'As in sessions.';
comment on column public.live_sessions.end_time is 'As in sessions; the deadline once that has passed.';
comment on column public.live_sessions.deadline is 'As in sessions.';
comment on column public.live_sessions.status is 'As in sessions; expired once the deadline has passed.';
comment on column public.live_sessions.total_ms is 'Milliseconds from start to end; null while running.';
comment on column public.live_sessions.total_time is 'The same for people.';
comment on column public.live_sessions.published is 'As in sessions.';
revoke all on public.live_sessions from public, anon, authenticated, service_role;
grant select on public.live_sessions to anon, authenticated, service_role, speedcoding_writer;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer, speedcoding_keeper;

create or replace function private.guard_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if (new.id, new.user_id, new.challenge_id) is distinct from (old.id, old.user_id, old.challenge_id) then
    perform private.refuse(409, 'session_fixed', 'A session keeps its id, its runner and its challenge.');
  end if;
  if old.status <> 'running' and new.status = 'running' then
    perform private.refuse(409, 'session_already_ended', 'A session that is over cannot run again.');
  end if;
  if (new.status = 'running') <> (new.end_time is null) then
    perform private.refuse(409, 'session_times', 'A session that is over has an end_time, one that is running has none.');
  end if;
  if new.end_time < new.start_time then
    perform private.refuse(409, 'session_times', 'A session cannot end before it starts.');
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

-- A time or a stack corrected in the dashboard reaches the submission in the same transaction. The first row of a
-- statement does it for all of them at once: what follows from it then takes its locks in one order.
create or replace function private.carry_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
    select from public.submissions as s
     where s.session_id = new.id
       and (s.tech_stack, s.tech_stack_key, s.total_ms, s.end_time)
         is distinct from (new.tech_stack, new.tech_stack_key, new.total_ms, new.end_time)
  ) then
    update public.submissions as s
       set tech_stack = n.tech_stack, tech_stack_key = n.tech_stack_key, total_ms = n.total_ms, end_time = n.end_time
      from new_rows as n
     where s.session_id = n.id
       and (s.tech_stack, s.tech_stack_key, s.total_ms, s.end_time)
         is distinct from (n.tech_stack, n.tech_stack_key, n.total_ms, n.end_time);
  end if;
  return null;
end
$$;

comment on function private.carry_session() is 'Copies a session''s stack and times to its submission.';
revoke all on function private.carry_session() from public, anon, authenticated, service_role;
alter function private.carry_session() owner to speedcoding_keeper;

create or replace function private.guard_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'DELETE' then
    -- With its session it may go.
    if old.passed and pg_trigger_depth() = 1 then
      perform private.refuse(409, 'milestone_passed', 'A milestone that is passed stays passed.');
    end if;
    return old;
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
      'A milestone that is passed has the time when in completed_at, one that is not has none.');
  end if;
  new.pending := new.pending and not new.passed;
  return new;
end
$$;

comment on function private.guard_milestone() is 'Refuses changes to a milestone that history does not allow.';
revoke all on function private.guard_milestone() from public, anon, authenticated, service_role;
alter function private.guard_milestone() owner to speedcoding_keeper;

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
  return new;
end
$$;

comment on function private.guard_submission() is 'Refuses what neither runners nor moderators may do with a submission, and keeps its dates and its revision.';
revoke all on function private.guard_submission() from public, anon, authenticated, service_role;
alter function private.guard_submission() owner to speedcoding_keeper;

-- A policy that asked another table would recurse; so whether a run is public stands on its own rows.
create or replace function private.publish_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  subject uuid := case when tg_op = 'DELETE' then old.session_id else new.session_id end;
  approved boolean := tg_op <> 'DELETE' and new.status = 'APPROVED';
begin
  update public.sessions set published = approved where id = subject;
  update public.milestones set published = approved where session_id = subject;
  return null;
end
$$;

comment on function private.publish_session() is
  'Shows a run to everyone while its submission is approved.';
revoke all on function private.publish_session() from public, anon, authenticated, service_role;
alter function private.publish_session() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_writer, speedcoding_keeper;

-- Whoever edits a row, the API, the dashboard or a cascade, meets the same triggers.
create trigger sessions_guard before update on public.sessions
  for each row execute function private.guard_session();
create trigger sessions_carry after update on public.sessions
  referencing new table as new_rows
  for each row
  when ((old.tech_stack, old.tech_stack_key, old.total_ms, old.end_time)
    is distinct from (new.tech_stack, new.tech_stack_key, new.total_ms, new.end_time) and old.status <> 'running')
  execute function private.carry_session();
create trigger milestones_guard before update or delete on public.milestones
  for each row execute function private.guard_milestone();
create trigger submissions_guard before update on public.submissions
  for each row execute function private.guard_submission();
create trigger submissions_publish_insert after insert on public.submissions
  for each row when (new.status = 'APPROVED') execute function private.publish_session();
create trigger submissions_publish_update after update on public.submissions
  for each row when ((old.status = 'APPROVED') <> (new.status = 'APPROVED'))
  execute function private.publish_session();
create trigger submissions_publish_delete after delete on public.submissions
  for each row when (old.status = 'APPROVED') execute function private.publish_session();
