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
