-- The last pending verdict decides a session that has ended. This locks the session before it reads the milestones, so
-- that of two verdicts at once the second sees the first.
create or replace function private.settle_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  required integer;
begin
  select c.required_milestones
    into required
    from public.sessions as s
    join public.challenges as c on c.id = s.challenge_id
   where s.id = old.session_id
     and s.status = 'judging'
     for no key update of s;
  if not found or exists (select from public.milestones where session_id = old.session_id and pending) then
    return null;
  end if;
  update public.sessions
     set status = case
           when (select count(*) from public.milestones where session_id = old.session_id and passed) >= required
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
