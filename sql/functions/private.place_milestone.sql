-- Checks a milestone against its session and its challenge. Rows that exist already are not checked again.
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
  -- If there is no session, the foreign key refuses the row.
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
  'Refuses a milestone that its session''s challenge does not have, or that was passed before or after the session.';
revoke all on function private.place_milestone() from public, anon, authenticated, service_role;
alter function private.place_milestone() owner to speedcoding_keeper;
