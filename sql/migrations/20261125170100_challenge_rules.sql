-- What holds for challenges, whoever edits them: the dashboard row by row, `speedcoding challenges load`, an import.

alter table public.challenges
  add constraint challenges_description_length check (length(description) <= 20000);
alter table public.challenge_milestones
  add constraint challenge_milestones_description_length check (length(description) <= 20000);

-- Triggers look at all of a challenge, and lock it: they write nothing.
alter policy challenges_rules on public.challenges to speedcoding_writer, speedcoding_keeper;
alter policy challenge_milestones_rules on public.challenge_milestones to speedcoding_writer, speedcoding_keeper;
create policy challenges_lock on public.challenges for update to speedcoding_keeper using (true) with check (false);
create policy answer_variants_lock on private.answer_variants for update to speedcoding_keeper
  using (true) with check (false);
grant select, update (id) on public.challenges to speedcoding_keeper;
grant select on public.challenge_milestones to speedcoding_keeper;
grant update (id) on private.answer_variants to speedcoding_keeper;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_keeper;

create or replace function private.demand_no_runs(challenge uuid) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  last_deadline timestamptz;
begin
  select max(s.deadline)
    into last_deadline
    from public.sessions as s
   where s.challenge_id = challenge
     and s.status = 'running'
     and s.deadline > private.clock();
  if last_deadline is not null then
    perform private.refuse(409, 'challenge_running', format(
      'Runs of this challenge are under way, and their rules stay as they are: switch active off, and change them when the last is over, on %s at the latest.',
      to_char(last_deadline at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')));
  end if;
end
$$;

comment on function private.demand_no_runs(uuid) is 'Refuses while a challenge is being run.';
revoke all on function private.demand_no_runs(uuid) from public, anon, authenticated, service_role;
alter function private.demand_no_runs(uuid) owner to speedcoding_keeper;

create or replace function private.guard_challenge() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Whoever is starting a run is waited for, whoever starts one later waits.
  perform from public.challenges where id = old.id for update;
  if tg_op = 'DELETE' then
    if exists (select from public.sessions where challenge_id = old.id) then
      perform private.refuse(409, 'challenge_used', 'This challenge has been run, so it stays: switch active off to withdraw it.');
    end if;
    return old;
  end if;
  if new.id <> old.id then
    perform private.refuse(409, 'challenge_used', 'A challenge keeps its id.');
  end if;
  if new.slug <> old.slug and exists (select from public.sessions where challenge_id = old.id) then
    perform private.refuse(409, 'challenge_used', 'This challenge has been run, so it keeps its slug: links lead to it by that.');
  end if;
  if (new.required_milestones, new.ordered) <> (old.required_milestones, old.ordered) then
    perform private.demand_no_runs(old.id);
  end if;
  return new;
end
$$;

comment on function private.guard_challenge() is 'Refuses changes to a challenge that its runs do not allow.';
revoke all on function private.guard_challenge() from public, anon, authenticated, service_role;
alter function private.guard_challenge() owner to speedcoding_keeper;

create or replace function private.guard_challenge_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  challenge uuid := case tg_op when 'INSERT' then new.challenge_id else old.challenge_id end;
begin
  if tg_op = 'UPDATE' and (new.challenge_id, new.number, new.verification) = (old.challenge_id, old.number, old.verification) then
    return null;
  end if;
  -- As for the challenge itself; and whoever else changes its milestones waits, so that numbers stay contiguous.
  perform from public.challenges where id = challenge for update;
  if tg_op = 'UPDATE' and new.challenge_id <> old.challenge_id then
    perform private.refuse(409, 'challenge_used', 'A milestone keeps its challenge.');
  end if;
  if (tg_op = 'DELETE' or tg_op = 'UPDATE' and new.number <> old.number)
    and exists (select from public.sessions where challenge_id = challenge)
  then
    perform private.refuse(409, 'challenge_used',
      'This challenge has been run, so its milestones keep their numbers, and none can be taken away.');
  end if;
  perform private.demand_no_runs(challenge);
  return null;
end
$$;

comment on function private.guard_challenge_milestone() is
  'Refuses changes to a challenge''s milestones that its runs do not allow.';
revoke all on function private.guard_challenge_milestone() from public, anon, authenticated, service_role;
alter function private.guard_challenge_milestone() owner to speedcoding_keeper;

create or replace function private.guard_answer_variant() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Whoever is being given it is waited for.
  perform from private.answer_variants where id = old.id for update;
  if exists (select from private.session_inputs where variant_id = old.id) then
    perform private.refuse(409, 'input_given',
      'Sessions have been given this input, so it stays with its answer: set retired, and add another one.');
  end if;
  return case tg_op when 'DELETE' then old end;
end
$$;

comment on function private.guard_answer_variant() is 'Refuses changes to an input that a session was given.';
revoke all on function private.guard_answer_variant() from public, anon, authenticated, service_role;
alter function private.guard_answer_variant() owner to speedcoding_keeper;

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
    perform private.refuse(409, 'challenge_incomplete', format(
      'This challenge has %s of the %s milestones that it requires: switch active off until all of it is there.',
      placed, challenge.required_milestones));
  end if;
  select min(m.number)
    into missing
    from public.challenge_milestones as m
   where m.challenge_id = challenge.id
     and m.verification = 'answer'
     and not exists (
       select from private.answer_variants as v
        where v.challenge_id = m.challenge_id
          and v.milestone_number = m.number
          and not v.retired
     );
  if missing is not null then
    perform private.refuse(409, 'challenge_incomplete', format(
      'Milestone %s is passed by an answer, and has no input to give: switch active off until there is one in private.answer_variants.',
      missing));
  end if;
  return null;
end
$$;

comment on function private.check_challenge() is
  'Refuses milestones whose numbers have a gap, and changes that make an active challenge impossible to complete.';
revoke all on function private.check_challenge() from public, anon, authenticated, service_role;
alter function private.check_challenge() owner to speedcoding_keeper;

-- Once a statement: of many inputs, thousands may be retired at once. What takes their place is there before.
create or replace function private.check_inputs() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  bare integer;
begin
  select min(m.number)
    into bare
    from (select distinct o.challenge_id, o.milestone_number from old_rows as o) as touched
    join public.challenges as c on c.id = touched.challenge_id
    join public.challenge_milestones as m on m.challenge_id = c.id and m.number = touched.milestone_number
   where c.active
     and m.verification = 'answer'
     and not exists (
       select from private.answer_variants as v
        where v.challenge_id = m.challenge_id
          and v.milestone_number = m.number
          and not v.retired
     );
  if bare is not null then
    perform private.refuse(409, 'challenge_incomplete', format(
      'Milestone %s is passed by an answer, and would have no input to give: add another one first, or switch active off.', bare));
  end if;
  return null;
end
$$;

comment on function private.check_inputs() is 'Refuses to take the last input from a milestone of an active challenge.';
revoke all on function private.check_inputs() from public, anon, authenticated, service_role;
alter function private.check_inputs() owner to speedcoding_keeper;

-- Not what they were before: only how many.
create or replace function private.record_inputs() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.audit_log (action, subject_id, details)
  select 'challenge_input.' || case tg_op when 'INSERT' then 'added' else 'changed' end,
         r.challenge_id,
         jsonb_build_object('milestoneNumber', r.milestone_number, 'count', count(*), 'retired', count(*) filter (where r.retired))
    from new_rows as r
   group by r.challenge_id, r.milestone_number
   order by r.milestone_number;
  return null;
end
$$;

comment on function private.record_inputs() is 'Writes into the audit log how many inputs of which milestone were added or changed.';
revoke all on function private.record_inputs() from public, anon, authenticated, service_role;
alter function private.record_inputs() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_keeper;

create trigger challenges_guard_delete before delete on public.challenges
  for each row execute function private.guard_challenge();
create trigger challenges_guard before update on public.challenges
  for each row when ((old.id, old.slug, old.required_milestones, old.ordered)
    is distinct from (new.id, new.slug, new.required_milestones, new.ordered))
  execute function private.guard_challenge();
create trigger challenge_milestones_guard after insert or update or delete on public.challenge_milestones
  for each row execute function private.guard_challenge_milestone();
create trigger answer_variants_guard_delete before delete on private.answer_variants
  for each row execute function private.guard_answer_variant();
create trigger answer_variants_guard after update on private.answer_variants
  for each row when ((old.id, old.challenge_id, old.milestone_number, old.input, old.salt, old.digest)
    is distinct from (new.id, new.challenge_id, new.milestone_number, new.input, new.salt, new.digest))
  execute function private.guard_answer_variant();

create constraint trigger challenges_check after update on public.challenges
  deferrable initially deferred for each row
  when ((old.required_milestones, old.active) is distinct from (new.required_milestones, new.active))
  execute function private.check_challenge('id');
create constraint trigger challenge_milestones_check after insert or update or delete on public.challenge_milestones
  deferrable initially deferred for each row execute function private.check_challenge('challenge_id');
create trigger answer_variants_check_update after update on private.answer_variants
  referencing old table as old_rows
  for each statement execute function private.check_inputs();
create trigger answer_variants_check_delete after delete on private.answer_variants
  referencing old table as old_rows
  for each statement execute function private.check_inputs();

create trigger challenges_record after insert or update or delete on public.challenges
  for each row when (current_user not in ('speedcoding_writer', 'speedcoding_keeper') and pg_trigger_depth() = 0)
  execute function private.record_change('challenge', 'id');
create trigger challenge_milestones_record after insert or update or delete on public.challenge_milestones
  for each row when (current_user not in ('speedcoding_writer', 'speedcoding_keeper') and pg_trigger_depth() = 0)
  execute function private.record_change('challenge_milestone', 'challenge_id');
create trigger answer_variants_record_insert after insert on private.answer_variants
  referencing new table as new_rows
  for each statement execute function private.record_inputs();
create trigger answer_variants_record_update after update on private.answer_variants
  referencing new table as new_rows
  for each statement execute function private.record_inputs();
create trigger answer_variants_record_delete after delete on private.answer_variants
  for each row when (pg_trigger_depth() = 0) execute function private.record_change('challenge_input', 'challenge_id');
