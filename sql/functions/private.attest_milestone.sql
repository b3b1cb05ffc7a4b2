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
