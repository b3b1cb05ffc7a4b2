-- A milestone with a kind of verification that a rule does not know is refused: nothing passes by default.

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer, speedcoding_keeper;

create or replace function private.refuse_verification(verification text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.refuse(501, 'verification_unknown', format(
    'This milestone has the verification "%s", which the service does not know, so nothing was changed. The operator of the service can help.',
    verification));
end
$$;

comment on function private.refuse_verification(text) is
  'Refuses a milestone whose kind of verification a rule does not know: each rule that decides by kind ends with it.';
revoke all on function private.refuse_verification(text) from public, anon, authenticated, service_role;
grant execute on function private.refuse_verification(text) to speedcoding_writer, speedcoding_keeper;

create or replace function private.takes_input(verification public.milestone_verification) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  takes boolean;
begin
  case verification
    when 'answer' then
      takes := true;
    when 'manual', 'verifier' then
      takes := false;
    else
      perform private.refuse_verification(verification::text);
  end case;
  return takes;
end
$$;

comment on function private.takes_input(public.milestone_verification) is
  'Whether a milestone with this verification gives its runners inputs from private.answer_variants.';
revoke all on function private.takes_input(public.milestone_verification) from
  public, anon, authenticated, service_role;
alter function private.takes_input(public.milestone_verification) owner to speedcoding_keeper;

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

  -- Null waits for a verdict.
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

-- The session must still run: what is attested after its end would change a result that is handed in. The split is
-- the moment when the runner asked, so that how long a verifier takes costs no split.
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
  -- Asked after the lock: a demotion that came first counts.
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
    return private.describe_milestone(session.id, attest_milestone.milestone_number);
  end if;

  if tried.passed then
    perform private.refuse(409, 'milestone_passed', 'This milestone is passed, and stays passed.');
  end if;
  judged_at := private.clock();
  over := private.find_over(session.id, session.status, session.deadline, judged_at);
  if over is not null then
    return jsonb_populate_record(null::private.milestone_result, jsonb_build_object('refusal', over));
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
  -- An error was not the runner's: the milestone waits on, for the next verdict.
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
  'A verifier''s verdict on a milestone that waits for one; again, it answers as the first time.';
revoke all on function private.attest_milestone(jsonb, uuid, integer, text, text, text) from
  public, anon, authenticated, service_role;
grant execute on function private.attest_milestone(jsonb, uuid, integer, text, text, text) to speedcoding_api;
alter function private.attest_milestone(jsonb, uuid, integer, text, text, text) owner to speedcoding_writer;

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
  'The input that the caller''s session has for a milestone; one is chosen where it has none yet.';
revoke all on function private.read_input(uuid, integer) from public, anon, authenticated, service_role;
grant execute on function private.read_input(uuid, integer) to speedcoding_writer;
alter function private.read_input(uuid, integer) owner to speedcoding_keeper;

-- Asked when all of a transaction is done: a challenge may be put together, or put in order, step by step.
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
  -- Milestones that are added, row by row, are not complete yet.
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
      'What is passed by an answer needs an input in private.answer_variants; there is none for milestone %s.', bare);
  end if;
  if reasons <> '{}' then
    perform private.refuse(409, 'challenge_incomplete',
      array_to_string(reasons, ' ') || ' Switch active off until all of it is there.');
  end if;
  return null;
end
$$;

comment on function private.check_challenge() is
  'Refuses milestones whose numbers have a gap, and an active challenge that is impossible to complete.';
revoke all on function private.check_challenge() from public, anon, authenticated, service_role;
alter function private.check_challenge() owner to speedcoding_keeper;

-- Once a statement: of many inputs, thousands may be retired at once. What takes their place is there before.
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
      'Milestone %s is passed by an answer, and would have no input to give: add another one first, or switch active off.', bare));
  end if;
  return null;
end
$$;

comment on function private.check_inputs() is 'Refuses to take the last input from a milestone of an active challenge.';
revoke all on function private.check_inputs() from public, anon, authenticated, service_role;
alter function private.check_inputs() owner to speedcoding_keeper;

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
  -- As for the challenge itself; and whoever else changes its milestones waits, so that numbers stay contiguous.
  perform from public.challenges where id = challenge for update;
  perform private.demand_editable(
    challenge,
    concat_ws(' ',
      case when new.challenge_id <> old.challenge_id then 'A milestone keeps its challenge.' end,
      case when (tg_op = 'DELETE' or new.number <> old.number)
          and exists (select from public.sessions where challenge_id = challenge)
        then 'This challenge has been run, so its milestones keep their numbers, and none can be taken away.' end),
    tg_op = 'INSERT' or new.verification <> old.verification);
  return null;
end
$$;

comment on function private.guard_challenge_milestone() is
  'Refuses changes to a challenge''s milestones that its runs do not allow.';
revoke all on function private.guard_challenge_milestone() from public, anon, authenticated, service_role;
alter function private.guard_challenge_milestone() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_writer, speedcoding_keeper;
