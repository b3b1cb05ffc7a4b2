-- Whoever edits a challenge in the dashboard is told of all that is in the way, not one thing after the other.

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_keeper;

-- All that is in the way is named at once: what is fixed, and the runs under way where the rules are touched.
create or replace function private.demand_editable(challenge uuid, fixed text, touches_rules boolean) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  reasons text := fixed;
  last_deadline timestamptz;
begin
  if touches_rules then
    select max(s.deadline)
      into last_deadline
      from public.sessions as s
     where s.challenge_id = challenge
       and s.status = 'running'
       and s.deadline > private.clock();
  end if;
  if last_deadline is not null then
    reasons := concat_ws(' ', nullif(fixed, ''), format(
      'Runs of this challenge are under way, and their rules stay as they are: switch active off, and change them when the last is over, on %s at the latest.',
      to_char(last_deadline at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')));
  end if;
  if reasons <> '' then
    perform private.refuse(409, case fixed when '' then 'challenge_running' else 'challenge_used' end, reasons);
  end if;
end
$$;

comment on function private.demand_editable(uuid, text, boolean) is
  'Refuses a change to a challenge: for what is fixed, in words, and while it is being run for what touches its rules.';
revoke all on function private.demand_editable(uuid, text, boolean) from public, anon, authenticated, service_role;
alter function private.demand_editable(uuid, text, boolean) owner to speedcoding_keeper;

create or replace function private.guard_challenge() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  used boolean;
begin
  -- Whoever is starting a run is waited for, whoever starts one later waits.
  perform from public.challenges where id = old.id for update;
  used := exists (select from public.sessions where challenge_id = old.id);
  if tg_op = 'DELETE' then
    if used then
      perform private.refuse(409, 'challenge_used', 'This challenge has been run, so it stays: switch active off to withdraw it.');
    end if;
    return old;
  end if;
  perform private.demand_editable(
    old.id,
    concat_ws(' ',
      case when new.id <> old.id then 'A challenge keeps its id.' end,
      case when new.slug <> old.slug and used
        then 'This challenge has been run, so it keeps its slug: links lead to it by that.' end),
    (new.required_milestones, new.ordered) <> (old.required_milestones, old.ordered));
  return new;
end
$$;

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
  perform private.demand_editable(
    challenge,
    concat_ws(' ',
      case when new.challenge_id <> old.challenge_id then 'A milestone keeps its challenge.' end,
      case when (tg_op = 'DELETE' or new.number <> old.number)
          and exists (select from public.sessions where challenge_id = challenge)
        then 'This challenge has been run, so its milestones keep their numbers, and none can be taken away.' end),
    tg_op = 'INSERT' or new.verification <> old.verification);
  return null;
end
$$;

drop function private.demand_no_runs(uuid);

revoke create on schema private from speedcoding_keeper;
