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
