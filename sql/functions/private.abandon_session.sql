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

comment on function private.abandon_session(jsonb, uuid) is 'Gives up the caller''s running session.';
revoke all on function private.abandon_session(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.abandon_session(jsonb, uuid) to speedcoding_api;
alter function private.abandon_session(jsonb, uuid) owner to speedcoding_writer;
