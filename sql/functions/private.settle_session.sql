-- The last pending verdict decides a session that has ended. This locks the session before it reads the milestones, so
-- that of two verdicts at once the second sees the first. It locks a running session, too: its end may come at the same
-- moment, and then either the end sees this verdict, or this sees the end.
create or replace function private.settle_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  session record;
begin
  select s.status, c.required_milestones
    into session
    from public.sessions as s
    join public.challenges as c on c.id = s.challenge_id
   where s.id = old.session_id
     for no key update of s;
  if session.status is distinct from 'judging'
    or exists (select from public.milestones where session_id = old.session_id and pending)
  then
    return null;
  end if;
  update public.sessions
     set status = case
           when (select count(*) from public.milestones where session_id = old.session_id and passed) >= session.required_milestones
             then 'completed'
           else 'incomplete'
         end::public.session_status
   where id = old.session_id;
  return null;
end
$$;

comment on function private.settle_session() is
  'Makes a session that is judging completed or incomplete, once no milestone of it is pending any more.';
revoke all on function private.settle_session() from public, anon, authenticated, service_role;
alter function private.settle_session() owner to speedcoding_keeper;
