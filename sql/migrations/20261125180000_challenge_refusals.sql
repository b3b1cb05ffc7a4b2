-- Refusals that say all of what to do: to whoever names no challenge, and to whoever edits one.

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer, speedcoding_keeper;

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
        then 'The default, freestyle, is not to be had here: name a challenge, by its slug; GET /challenges lists them.'
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
  -- What is being put together, row by row, is not complete yet.
  if tg_op = 'INSERT' or not challenge.active then
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
     and m.verification = 'answer'
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
  'Refuses milestones whose numbers have a gap, and changes that make an active challenge impossible to complete.';
revoke all on function private.check_challenge() from public, anon, authenticated, service_role;
alter function private.check_challenge() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_writer, speedcoding_keeper;
