-- What the dashboard writes of a milestone agrees with its session and its challenge.

grant create on schema private to speedcoding_keeper;
grant select (completed_at) on public.milestones to speedcoding_keeper;

create or replace function private.guard_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Triggers alone say what is public: they follow the submission.
  if tg_op = 'INSERT' then
    new.published := false;
    return new;
  end if;
  if new.published <> old.published and pg_trigger_depth() = 1 then
    perform private.refuse(409, 'session_fixed',
      'A session is shown to everyone while its submission is APPROVED: change that instead of published.');
  end if;
  if (new.id, new.user_id, new.challenge_id) is distinct from (old.id, old.user_id, old.challenge_id) then
    perform private.refuse(409, 'session_fixed', 'A session keeps its id, its runner and its challenge.');
  end if;
  if old.status <> 'running' and new.status = 'running' then
    perform private.refuse(409, 'session_already_ended', 'A session that is over cannot run again.');
  end if;
  if (new.status = 'running') <> (new.end_time is null) then
    perform private.refuse(409, 'session_times', 'A session that is over has an end_time, one that is running has none.');
  end if;
  if new.end_time < new.start_time then
    perform private.refuse(409, 'session_times', 'A session cannot end before it starts.');
  end if;
  -- Rows that are so already may stay: only what makes it so is refused.
  if (new.start_time > old.start_time or new.end_time < old.end_time)
    and exists (
      select from public.milestones
       where session_id = new.id
         and (completed_at < new.start_time or completed_at > new.end_time)
    )
  then
    perform private.refuse(409, 'session_times',
      'A session starts before its first milestone is passed and ends after its last: correct their completed_at first.');
  end if;
  if old.status = 'completed' and new.status <> 'completed'
    and exists (select from public.submissions where session_id = new.id)
  then
    perform private.refuse(409, 'session_handed_in',
      'This session has handed in, so it stays completed; delete its submission first.');
  end if;
  return new;
end
$$;

-- What a milestone's session and challenge say of it. Rows that are there already are not asked again.
create or replace function private.place_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  session record;
begin
  select s.challenge_id, s.start_time, coalesce(s.end_time, private.clock()) as end_time
    into session
    from public.sessions as s
   where s.id = new.session_id;
  -- Without a session the foreign key refuses it.
  if not found then
    return new;
  end if;
  if not exists (
    select from public.challenge_milestones as m
     where m.challenge_id = session.challenge_id
       and m.number = new.milestone_number
  ) then
    perform private.refuse(400, 'unknown_milestone',
      format('The challenge of this session has no milestone %s.', new.milestone_number));
  end if;
  if new.completed_at < session.start_time or new.completed_at > session.end_time then
    perform private.refuse(409, 'milestone_times', format(
      'A milestone is passed while its session runs: completed_at must be from %s to %s.',
      session.start_time, session.end_time));
  end if;
  return new;
end
$$;

comment on function private.place_milestone() is
  'Refuses a milestone that its session''s challenge has not, or that was passed before or after the session.';
revoke all on function private.place_milestone() from public, anon, authenticated, service_role;
alter function private.place_milestone() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_keeper;

-- The domain functions have made sure of it, and need not pay for it again.
create trigger milestones_place_insert before insert on public.milestones
  for each row when (current_user <> 'speedcoding_writer') execute function private.place_milestone();
create trigger milestones_place_update before update on public.milestones
  for each row when (current_user <> 'speedcoding_writer' and new.completed_at is distinct from old.completed_at)
  execute function private.place_milestone();
