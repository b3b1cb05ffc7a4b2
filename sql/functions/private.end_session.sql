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
