create or replace function private.guard_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Only triggers set `published`: it follows the submission.
  if tg_op = 'INSERT' then
    new.published := false;
    return new;
  end if;
  if tg_op = 'DELETE' then
    -- The deletion of a session deletes its milestones.
    if old.passed and pg_trigger_depth() = 1 then
      perform private.refuse(409, 'milestone_passed', 'A milestone that is passed stays passed.');
    end if;
    return old;
  end if;
  if new.published <> old.published and pg_trigger_depth() = 1 then
    perform private.refuse(409, 'milestone_fixed',
      'A milestone is public while its session''s submission is APPROVED: change the status of the submission, not published.');
  end if;
  if (new.id, new.session_id, new.user_id, new.milestone_number)
    is distinct from (old.id, old.session_id, old.user_id, old.milestone_number)
  then
    perform private.refuse(409, 'milestone_fixed', 'A milestone keeps its id, its session and its number.');
  end if;
  if old.passed and not new.passed then
    perform private.refuse(409, 'milestone_passed', 'A milestone that is passed stays passed.');
  end if;
  if new.passed <> (new.completed_at is not null) then
    perform private.refuse(409, 'milestone_times',
      'A milestone that is passed has a time in completed_at, and one that is not passed has none.');
  end if;
  new.pending := new.pending and not new.passed;
  return new;
end
$$;

comment on function private.guard_milestone() is 'Refuses changes to a milestone that history does not allow.';
revoke all on function private.guard_milestone() from public, anon, authenticated, service_role;
alter function private.guard_milestone() owner to speedcoding_keeper;
