-- The dashboard gives a session, its packages and its video; the other columns are copied from the session.
create or replace function private.complete_submission() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  session public.sessions;
begin
  if exists (select from public.submissions where session_id = new.session_id) then
    perform private.refuse(409, 'submission_exists', 'This session already has a submission.');
  end if;
  select * into session from public.sessions where id = new.session_id;
  -- If there is no session, the foreign key refuses the row. An import may insert both in one statement.
  if found then
    if session.status <> 'completed' then
      perform private.refuse(409, 'session_not_completed',
        format('Only a completed session can have a submission, and this session is %s.', session.status));
    end if;
    new.user_id := session.user_id;
    new.challenge_id := session.challenge_id;
    new.tech_stack := session.tech_stack;
    new.tech_stack_key := session.tech_stack_key;
    new.total_ms := session.total_ms;
    new.end_time := session.end_time;
  end if;
  if new.status <> 'PENDING' then
    new.reviewed_at := coalesce(new.reviewed_at, private.clock());
  end if;
  if new.claimed_by is not null then
    new.claimed_at := coalesce(new.claimed_at, private.clock());
  end if;
  return new;
end
$$;

comment on function private.complete_submission() is
  'Copies the run of a new submission from its session, and refuses a second one or one without a completed session.';
revoke all on function private.complete_submission() from public, anon, authenticated, service_role;
alter function private.complete_submission() owner to speedcoding_keeper;
