-- What the API calls: each function takes the caller's verified claims first and answers with one row.
-- What is raised leaves no trace. What must stay although the request is refused (a session found to have
-- expired) comes back as `refusal` instead, with the members of a problem.

create type private.session_result as (
  refusal jsonb,
  id uuid,
  user_id uuid,
  challenge text,
  tech_stack text,
  status text,
  start_time timestamptz,
  end_time timestamptz,
  deadline timestamptz,
  total_ms bigint,
  total_time text,
  milestones jsonb,
  submission jsonb,
  server_time timestamptz
);
comment on type private.session_result is 'A session with its milestones and submission, or why not.';

create type private.milestone_result as (
  refusal jsonb,
  id uuid,
  session_id uuid,
  milestone_number integer,
  title text,
  passed boolean,
  pending boolean,
  completed_at timestamptz,
  split_ms bigint,
  attempts integer,
  next_attempt_at timestamptz
);
comment on type private.milestone_result is 'A milestone of a session, or why not.';

create type private.challenge_result as (
  slug text,
  title text,
  description text,
  required_milestones integer,
  ordered boolean,
  ranked boolean,
  max_duration_ms bigint,
  milestones jsonb
);
comment on type private.challenge_result is 'A challenge with its milestones.';

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer, speedcoding_keeper;

-- The first line of every domain function. From here on every policy sees the caller, for this transaction
-- only: nothing of one request can stay on a pooled connection. Logout, revocation and bans count at once,
-- whatever the access token still says.
create or replace function private.enter(caller jsonb, anyone boolean default false) returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  signed_in record;
begin
  perform set_config('request.jwt.claims', coalesce(caller, '{"role": "anon"}')::text, true);
  if caller is null then
    if not anyone then
      perform private.refuse(401, 'missing_token', 'Send an access token: log in to get one.');
    end if;
    return null;
  end if;
  select account.id, account.banned_at
    into signed_in
    from private.refresh_tokens as token
    join public.users as account on account.id = token.user_id
   where token.id = (caller ->> 'session_id')::uuid
     and token.user_id = (caller ->> 'sub')::uuid
     and token.revoked_at is null
     and least(token.idle_expires_at, token.expires_at) > private.clock();
  if not found then
    perform private.refuse(401, 'sign_in_ended', 'This sign-in has ended: log in again.');
  end if;
  if signed_in.banned_at is not null then
    perform private.refuse(403, 'account_banned', 'This account is banned.');
  end if;
  return signed_in.id;
end
$$;

comment on function private.enter(jsonb, boolean) is
  'Makes the verified claims the caller of this transaction and returns the user''s id; refuses the signed-out and the banned.';
revoke all on function private.enter(jsonb, boolean) from public, anon, authenticated, service_role;
grant execute on function private.enter(jsonb, boolean) to speedcoding_writer;
alter function private.enter(jsonb, boolean) owner to speedcoding_writer;

create or replace function private.describe_submission(handed_in public.submissions) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'id', handed_in.id,
    'sessionId', handed_in.session_id,
    'packages', handed_in.packages,
    'videoUrl', handed_in.video_url,
    'submittedAt', handed_in.submitted_at,
    'status', handed_in.status,
    'revision', handed_in.revision,
    'claimedBy', handed_in.claimed_by,
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
    'reviewedAt', handed_in.reviewed_at
  );
end
$$;

comment on function private.describe_submission(public.submissions) is
  'A submission, with the reason of its last review as far as the caller may see it.';
revoke all on function private.describe_submission(public.submissions) from public, anon, authenticated, service_role;
alter function private.describe_submission(public.submissions) owner to speedcoding_writer;

-- Runs with the caller's claims under the policies: what the caller may not see is not there.
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
                 -- Once the session is over nobody attests any more.
                 'pending', m.pending and s.status = 'running',
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
      private.clock()
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

create or replace function private.describe_milestone(session uuid, milestone integer)
returns private.milestone_result
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select row(
      null, m.id, m.session_id, m.milestone_number, definition.title, m.passed, m.pending, m.completed_at,
      private.elapsed_ms(s.start_time, m.completed_at), m.attempts, m.next_attempt_at
    )::private.milestone_result
      from public.milestones as m
      join public.sessions as s on s.id = m.session_id
      left join public.challenge_milestones as definition
        on definition.challenge_id = s.challenge_id and definition.number = m.milestone_number
     where m.session_id = session
       and m.milestone_number = milestone
  );
end
$$;

comment on function private.describe_milestone(uuid, integer) is
  'A milestone of a session, as far as the caller may see it.';
revoke all on function private.describe_milestone(uuid, integer) from
  public, anon, authenticated, service_role;
alter function private.describe_milestone(uuid, integer) owner to speedcoding_writer;

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

comment on function private.expire_session(uuid) is 'Stores what every read already computes: it ended at its deadline.';
revoke all on function private.expire_session(uuid) from public, anon, authenticated, service_role;
alter function private.expire_session(uuid) owner to speedcoding_writer;

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
    perform private.refuse(404, 'challenge_not_found', 'There is no such challenge: GET /challenges lists them.');
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

-- Answers are compared as text, but for the white space around them and for how Unicode composes letters.
create or replace function private.answer_digest(salt bytea, answer text) returns bytea
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return sha256(salt || convert_to(normalize(btrim(answer, E' \t\r\n'), nfc), 'UTF8'));
end
$$;

comment on function private.answer_digest(bytea, text) is 'What is kept of an answer: a salted SHA-256.';
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
  'How long nothing is judged after so many attempts that failed: 1, 1, 1, 5, 5, 5, then 10 minutes.';
revoke all on function private.attempt_cooldown(integer) from public, anon, authenticated, service_role;
grant execute on function private.attempt_cooldown(integer) to speedcoding_writer;

create or replace function private.demand_role(role text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(private.caller_role(), '') not in (demand_role.role, 'admin') then
    perform private.refuse(403, 'role_required', format('This takes a %s.', demand_role.role));
  end if;
end
$$;

comment on function private.demand_role(text) is 'Refuses a caller who at this moment has neither this role nor admin.';
revoke all on function private.demand_role(text) from public, anon, authenticated, service_role;
alter function private.demand_role(text) owner to speedcoding_writer;

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
  'Who judges a milestone of a challenge; refuses a number that the challenge does not have.';
revoke all on function private.demand_milestone(uuid, integer) from public, anon, authenticated, service_role;
alter function private.demand_milestone(uuid, integer) owner to speedcoding_writer;

create or replace function private.demand_turn(session uuid, challenge uuid, milestone integer) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  next_number integer;
begin
  select min(d.number)
    into next_number
    from public.challenge_milestones as d
   where d.challenge_id = challenge
     and not exists (
       select from public.milestones as m
        where m.session_id = session
          and m.milestone_number = d.number
          and m.passed
     );
  if milestone > next_number then
    perform private.refuse(409, 'milestone_out_of_order',
      format('The milestones of this challenge come in order: number %s is next.', next_number),
      jsonb_build_object('nextMilestone', next_number));
  end if;
end
$$;

comment on function private.demand_turn(uuid, uuid, integer) is
  'Refuses a milestone whose turn has not come in its session; for challenges that are ordered.';
revoke all on function private.demand_turn(uuid, uuid, integer) from public, anon, authenticated, service_role;
alter function private.demand_turn(uuid, uuid, integer) owner to speedcoding_writer;

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
    format('This session is %s: no milestone can be passed any more.', status),
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
  passes boolean := true;
  last_split timestamptz;
begin
  select s.id, s.challenge_id, s.status, s.start_time, s.deadline, c.ordered
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
  -- A retry answers as the first time, also when the session is over by then: nothing un-passes.
  if tried.passed then
    return private.describe_milestone(session.id, verify_milestone.milestone_number);
  end if;

  -- The time is read once, after the lock: those who waited for it are later.
  checked_at := private.clock();
  over := private.find_over(session.id, session.status, session.deadline, checked_at);
  if over is not null then
    return jsonb_populate_record(null::private.milestone_result, jsonb_build_object('refusal', over));
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
  -- The lock makes of any number of parallel attempts one after the other: the first fails, the others are early.
  if tried.next_attempt_at > checked_at then
    perform private.refuse(429, 'attempt_cooldown', 'The last attempt failed: wait until nextAttemptAt for the next.',
      jsonb_build_object(
        'nextAttemptAt', private.moment(tried.next_attempt_at),
        'retryAfter', ceil(extract(epoch from tried.next_attempt_at - checked_at))::integer));
  end if;

  if judged_by = 'answer' then
    passes := private.is_answer(session.id, verify_milestone.milestone_number, verify_milestone.answer);
    if not passes then
      insert into private.audit_log (action, user_id, subject_id, details)
      values ('milestone.failed', runner, session.id,
              jsonb_build_object('milestoneNumber', verify_milestone.milestone_number));
    end if;
  elsif judged_by = 'verifier' then
    passes := null;
  end if;
  if passes then
    select max(m.completed_at)
      into last_split
      from public.milestones as m
     where m.session_id = session.id
       and m.passed;
  end if;
  insert into public.milestones as m
    (session_id, user_id, milestone_number, passed, pending, completed_at, attempts, requested_at, next_attempt_at)
  values (
    session.id, runner, verify_milestone.milestone_number,
    coalesce(passes, false),
    passes is null,
    case when passes then greatest(checked_at, session.start_time, last_split) end,
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
  'Passes a milestone of the caller''s running session, judges an answer, or asks for a verifier; what is passed answers as the first time.';
revoke all on function private.verify_milestone(jsonb, uuid, integer, text) from
  public, anon, authenticated, service_role;
grant execute on function private.verify_milestone(jsonb, uuid, integer, text) to speedcoding_api;
alter function private.verify_milestone(jsonb, uuid, integer, text) owner to speedcoding_writer;

create or replace function private.end_session(
  caller jsonb, session_id uuid, packages text[], video_url text default null
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
  last_split timestamptz;
  passed_count bigint;
  ended_at timestamptz;
  completed boolean;
begin
  select s.id, s.challenge_id, s.status, s.start_time, s.deadline, s.end_digest, s.tech_stack, s.tech_stack_key,
         c.required_milestones
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
    if session.end_digest = payload_digest then
      return private.describe_session(session.id);
    end if;
    perform private.refuse(409, 'session_already_ended', 'This session has already ended; an end that is repeated must send the same data.',
      jsonb_build_object('sessionId', session.id));
  end if;

  select max(m.completed_at), count(*)
    into last_split, passed_count
    from public.milestones as m
   where m.session_id = session.id
     and m.passed;
  ended_at := greatest(ended_at, session.start_time, last_split);
  completed := passed_count >= session.required_milestones;
  update public.sessions
     set status = case when completed then 'completed' else 'incomplete' end::public.session_status,
         end_time = ended_at,
         end_digest = payload_digest
   where id = session.id;
  if not found then
    raise exception 'session % was locked and could not be ended', session.id;
  end if;
  if completed then
    insert into public.submissions
      (session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages, video_url)
    values (session.id, runner, session.challenge_id, session.tech_stack, session.tech_stack_key,
            private.elapsed_ms(session.start_time, ended_at), ended_at,
            end_session.packages, end_session.video_url);
  end if;
  return private.describe_session(session.id);
end
$$;

comment on function private.end_session(jsonb, uuid, text[], text) is
  'Stops the caller''s clock once; with enough milestones passed it hands in a submission.';
revoke all on function private.end_session(jsonb, uuid, text[], text) from
  public, anon, authenticated, service_role;
grant execute on function private.end_session(jsonb, uuid, text[], text) to speedcoding_api;
alter function private.end_session(jsonb, uuid, text[], text) owner to speedcoding_writer;

create or replace function private.abandon_session(caller jsonb, session_id uuid)
returns private.session_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  session record;
  last_split timestamptz;
  abandoned_at timestamptz;
begin
  select s.id, s.status, s.start_time, s.deadline
    into session
    from public.sessions as s
   where s.id = abandon_session.session_id
     and s.user_id = runner
     for no key update;
  if not found then
    perform private.refuse(404, 'session_not_found', 'You have no such session.');
  end if;

  abandoned_at := private.clock();
  if session.status = 'running' and abandoned_at >= session.deadline then
    perform private.expire_session(session.id);
    session.status := 'expired';
  end if;
  if session.status = 'expired' then
    return private.describe_session(session.id, private.refusal(409, 'session_expired',
      'This session ran past its deadline and has expired.', jsonb_build_object('sessionId', session.id)));
  end if;
  if session.status not in ('running', 'abandoned') then
    perform private.refuse(409, 'session_already_ended', 'This session has ended and cannot be abandoned.',
      jsonb_build_object('sessionId', session.id));
  end if;

  -- A retry answers as the first time.
  if session.status = 'running' then
    select max(m.completed_at)
      into last_split
      from public.milestones as m
     where m.session_id = session.id;
    update public.sessions
       set status = 'abandoned', end_time = greatest(abandoned_at, session.start_time, last_split)
     where id = session.id;
    if not found then
      raise exception 'session % was locked and could not be abandoned', session.id;
    end if;
  end if;
  return private.describe_session(session.id);
end
$$;

comment on function private.abandon_session(jsonb, uuid) is 'Gives the caller''s running session up.';
revoke all on function private.abandon_session(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.abandon_session(jsonb, uuid) to speedcoding_api;
alter function private.abandon_session(jsonb, uuid) owner to speedcoding_writer;

create or replace function private.get_session(caller jsonb, session_id uuid) returns private.session_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  found_session private.session_result;
begin
  perform private.enter(caller, anyone => true);
  found_session := private.describe_session(session_id);
  if found_session.id is null then
    perform private.refuse(404, 'session_not_found', 'There is no such session, or it is not public.');
  end if;
  return found_session;
end
$$;

comment on function private.get_session(jsonb, uuid) is
  'One session: the caller''s own, any for moderators and verifiers, published ones for everyone.';
revoke all on function private.get_session(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.get_session(jsonb, uuid) to speedcoding_api;
alter function private.get_session(jsonb, uuid) owner to speedcoding_writer;

create or replace function private.get_current_session(caller jsonb) returns private.session_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  runner uuid := private.enter(caller);
  running uuid;
begin
  select id
    into running
    from public.sessions
   where user_id = runner
     and status = 'running'
     and deadline > private.clock();
  if not found then
    perform private.refuse(404, 'no_running_session', 'No session of yours is running: start one.');
  end if;
  return private.describe_session(running);
end
$$;

comment on function private.get_current_session(jsonb) is 'The caller''s running session.';
revoke all on function private.get_current_session(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.get_current_session(jsonb) to speedcoding_api;
alter function private.get_current_session(jsonb) owner to speedcoding_writer;

-- Ids are ordered by time (UUIDv7), so the newest come first by id alone, from the index on (user_id, id).
create or replace function private.list_sessions(caller jsonb, page_size integer, before uuid default null)
returns setof private.session_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  runner uuid := private.enter(caller);
begin
  return query
    select described.*
      from (
        select id
          from public.sessions
         where user_id = runner
           and (before is null or id < before)
         order by id desc
         limit page_size
      ) as page
     cross join lateral private.describe_session(page.id) as described
     order by page.id desc;
end
$$;

comment on function private.list_sessions(jsonb, integer, uuid) is
  'The caller''s own sessions, the newest first, from before an id on.';
revoke all on function private.list_sessions(jsonb, integer, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.list_sessions(jsonb, integer, uuid) to speedcoding_api;
alter function private.list_sessions(jsonb, integer, uuid) owner to speedcoding_writer;

create or replace function private.describe_challenge(challenge uuid) returns private.challenge_result
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select row(
      c.slug, c.title, c.description, c.required_milestones, c.ordered, c.ranked,
      (extract(epoch from c.max_duration) * 1000)::bigint,
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
  'The active challenges with their milestones, by slug, from after one on.';
revoke all on function private.list_challenges(jsonb, integer, text) from
  public, anon, authenticated, service_role;
grant execute on function private.list_challenges(jsonb, integer, text) to speedcoding_api;
alter function private.list_challenges(jsonb, integer, text) owner to speedcoding_writer;

create or replace function private.get_challenge(caller jsonb, slug text) returns private.challenge_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted uuid;
begin
  perform private.enter(caller, anyone => true);
  select c.id
    into wanted
    from public.challenges as c
   where c.slug = get_challenge.slug
     and c.active;
  if not found then
    perform private.refuse(404, 'challenge_not_found', 'There is no such challenge: GET /challenges lists them.');
  end if;
  return private.describe_challenge(wanted);
end
$$;

comment on function private.get_challenge(jsonb, text) is 'One active challenge with its milestones.';
revoke all on function private.get_challenge(jsonb, text) from public, anon, authenticated, service_role;
grant execute on function private.get_challenge(jsonb, text) to speedcoding_api;
alter function private.get_challenge(jsonb, text) owner to speedcoding_writer;

create or replace function private.get_me(
  caller jsonb, out id uuid, out username text, out role text, out created_at timestamptz
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := private.enter(caller);
begin
  select u.id, u.username, u.role::text, u.created_at
    into get_me.id, get_me.username, get_me.role, get_me.created_at
    from public.users as u
   where u.id = me;
end
$$;

comment on function private.get_me(jsonb) is 'The caller''s own account.';
revoke all on function private.get_me(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.get_me(jsonb) to speedcoding_api;
alter function private.get_me(jsonb) owner to speedcoding_writer;

revoke create on schema private from speedcoding_writer, speedcoding_keeper;
