-- What the dashboard may write, and everybody would have to read.

-- No infinite time, nor one that clients cannot read: as in sessions. A row that has one already must not keep the
-- upgrade from starting: it is refused when it is edited next.
alter table public.users
  add constraint users_created_at_range
    check (created_at between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00') not valid,
  add constraint users_banned_at_range
    check (banned_at between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00') not valid,
  add constraint users_erased_at_range
    check (erased_at between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00') not valid;
alter table public.milestones
  add constraint milestones_completed_at_range
    check (completed_at between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00') not valid,
  add constraint milestones_requested_at_range
    check (requested_at between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00') not valid,
  add constraint milestones_next_attempt_at_range
    check (next_attempt_at between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00') not valid;
alter table public.submissions
  add constraint submissions_end_time_range
    check (end_time between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00') not valid,
  add constraint submissions_submitted_at_range
    check (submitted_at between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00') not valid,
  add constraint submissions_reviewed_at_range
    check (reviewed_at between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00') not valid;

-- A check constraint cannot look into an array by itself.
create or replace function private.packages_valid(packages text[]) returns boolean
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return cardinality(packages) <= 200
    -- A list, not one of lists.
    and coalesce(array_ndims(packages), 1) = 1
    and not exists (
      select from unnest(packages) as package
       where package is null or length(package) not between 1 and 214
    );
end
$$;

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
  if old.status = 'completed' and new.status <> 'completed'
    and exists (select from public.submissions where session_id = new.id)
  then
    perform private.refuse(409, 'session_handed_in',
      'This session has handed in, so it stays completed; delete its submission first.');
  end if;
  return new;
end
$$;

create or replace function private.guard_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- As with its session.
  if tg_op = 'INSERT' then
    new.published := false;
    return new;
  end if;
  if tg_op = 'DELETE' then
    -- With its session it may go.
    if old.passed and pg_trigger_depth() = 1 then
      perform private.refuse(409, 'milestone_passed', 'A milestone that is passed stays passed.');
    end if;
    return old;
  end if;
  if new.published <> old.published and pg_trigger_depth() = 1 then
    perform private.refuse(409, 'milestone_fixed',
      'A milestone is shown to everyone while its session''s submission is APPROVED: change that instead of published.');
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
      'A milestone that is passed has the time when in completed_at, one that is not has none.');
  end if;
  new.pending := new.pending and not new.passed;
  return new;
end
$$;

create trigger sessions_guard_insert before insert on public.sessions
  for each row when (new.published) execute function private.guard_session();
create trigger milestones_guard_insert before insert on public.milestones
  for each row when (new.published) execute function private.guard_milestone();
