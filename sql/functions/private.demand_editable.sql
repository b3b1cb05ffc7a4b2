-- Names all reasons at once: those in `fixed`, and the runs that the change of a rule would affect.
create or replace function private.demand_editable(challenge uuid, fixed text, touches_rules boolean) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  reasons text := fixed;
  last_deadline timestamptz;
  is_judging boolean;
begin
  if touches_rules then
    select max(s.deadline) filter (where s.status = 'running'), coalesce(bool_or(s.status = 'judging'), false)
      into last_deadline, is_judging
      from public.sessions as s
     where s.challenge_id = challenge
       and (s.status = 'running' and s.deadline > private.clock() or s.status = 'judging');
  end if;
  if is_judging then
    reasons := concat_ws(' ', nullif(reasons, ''),
      'Runs of this challenge wait for verdicts, and their rules stay as they are until the last one.');
  end if;
  if last_deadline is not null then
    reasons := concat_ws(' ', nullif(reasons, ''), format(
      'Runs of this challenge are under way, so its rules cannot change now: switch active off, and change them when the last run is over, on %s at the latest.',
      to_char(last_deadline at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')));
  end if;
  if reasons <> '' then
    perform private.refuse(409, case fixed when '' then 'challenge_running' else 'challenge_used' end, reasons);
  end if;
end
$$;

comment on function private.demand_editable(uuid, text, boolean) is
  'Refuses a change to a challenge for the reasons in `fixed`, and any change of its rules while sessions are running.';
revoke all on function private.demand_editable(uuid, text, boolean) from public, anon, authenticated, service_role;
alter function private.demand_editable(uuid, text, boolean) owner to speedcoding_keeper;
