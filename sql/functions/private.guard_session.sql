create or replace function private.guard_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  judging_refusal constant text :=
    'A session becomes judging when its runner ends it while a verdict is pending, and in no other way.';
begin
  -- Only triggers set `published`: it follows the submission.
  if tg_op = 'INSERT' then
    new.published := false;
    if new.status = 'judging' then
      perform private.refuse(409, 'session_fixed', judging_refusal);
    end if;
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
  -- Only the runner's end knows what is to be handed in after the last verdict.
  if old.status <> 'judging' and new.status = 'judging' and (
    old.status <> 'running'
    or not exists (select from private.session_ends where user_id = new.user_id and session_id = new.id)
    or not exists (select from public.milestones where session_id = new.id and pending)
  ) then
    perform private.refuse(409, 'session_fixed', judging_refusal);
  end if;
  if (new.status = 'running') <> (new.end_time is null) then
    perform private.refuse(409, 'session_times', 'A session that is over has an end_time, one that is running has none.');
  end if;
  if new.end_time < new.start_time then
    perform private.refuse(409, 'session_times', 'A session cannot end before it starts.');
  end if;
  -- Rows that were like this before may stay. Only a change that makes it so is refused.
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

comment on function private.guard_session() is 'Refuses changes to a session that history does not allow.';
revoke all on function private.guard_session() from public, anon, authenticated, service_role;
alter function private.guard_session() owner to speedcoding_keeper;
