create or replace function private.verify_milestone(caller jsonb, session_id uuid, milestone_number integer)
returns private.milestone_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  session record;
  last_split timestamptz;
  next_number integer;
  checked_at timestamptz;
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

  if not exists (
    select from public.challenge_milestones as d
     where d.challenge_id = session.challenge_id
       and d.number = verify_milestone.milestone_number
  ) then
    perform private.refuse(400, 'unknown_milestone',
      format('This challenge has no milestone %s.', verify_milestone.milestone_number),
      jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
        'field', 'milestoneNumber', 'code', 'unknown_milestone', 'message', 'is not a milestone of this challenge'))));
  end if;

  -- A retry answers as the first time, also when the session is over by then: nothing un-passes.
  if exists (
    select from public.milestones as m
     where m.session_id = session.id
       and m.milestone_number = verify_milestone.milestone_number
       and m.passed
  ) then
    return private.describe_milestone(session.id, verify_milestone.milestone_number);
  end if;

  -- The time is read once, after the lock: those who waited for it are later.
  checked_at := private.clock();
  if session.status = 'running' and checked_at >= session.deadline then
    perform private.expire_session(session.id);
    session.status := 'expired';
  end if;
  if session.status <> 'running' then
    return row(private.refusal(409,
      case when session.status = 'expired' then 'session_expired' else 'session_already_ended' end,
      format('This session is %s: no milestone can be passed any more.', session.status),
      jsonb_build_object('sessionId', session.id)),
      null, null, null, null, null, null, null, null, null, null)::private.milestone_result;
  end if;

  if session.ordered then
    select min(d.number)
      into next_number
      from public.challenge_milestones as d
     where d.challenge_id = session.challenge_id
       and not exists (
         select from public.milestones as m
          where m.session_id = session.id
            and m.milestone_number = d.number
            and m.passed
       );
    if verify_milestone.milestone_number <> next_number then
      perform private.refuse(409, 'milestone_out_of_order',
        format('The milestones of this challenge come in order: number %s is next.', next_number),
        jsonb_build_object('nextMilestone', next_number));
    end if;
  end if;

  select max(m.completed_at)
    into last_split
    from public.milestones as m
   where m.session_id = session.id
     and m.passed;
  insert into public.milestones (session_id, user_id, milestone_number, passed, completed_at, attempts)
  values (session.id, runner, verify_milestone.milestone_number, true,
          greatest(checked_at, session.start_time, last_split), 1);
  return private.describe_milestone(session.id, verify_milestone.milestone_number);
end
$$;

comment on function private.verify_milestone(jsonb, uuid, integer) is
  'Passes a milestone of the caller''s running session; again, it answers as the first time.';
revoke all on function private.verify_milestone(jsonb, uuid, integer) from
  public, anon, authenticated, service_role;
grant execute on function private.verify_milestone(jsonb, uuid, integer) to speedcoding_api;
alter function private.verify_milestone(jsonb, uuid, integer) owner to speedcoding_writer;
