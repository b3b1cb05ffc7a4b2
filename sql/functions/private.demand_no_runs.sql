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
