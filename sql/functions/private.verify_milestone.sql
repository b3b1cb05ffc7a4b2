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
