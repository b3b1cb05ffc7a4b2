-- A cascade deletes submissions session by session, in a statement each. All that it will need is locked before the
-- first, in the same order as by everybody else. The rows that were deleted stand in old_rows as they were deleted.
create or replace function private.foresee_cascade() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  challenges uuid[];
begin
  if old.id <> (select o.id from old_rows as o limit 1) then
    return null;
  end if;
  if tg_table_name = 'users' then
    -- Their sessions first, as whoever corrects one does; and what they have claimed, which is given back.
    perform from public.sessions where user_id in (select id from old_rows) order by id for update;
    perform from public.submissions where claimed_by in (select id from old_rows) order by id for update;
    select array_agg(s.challenge_id)
      into challenges
      from (select challenge_id from public.submissions where user_id in (select id from old_rows) for update) as s;
  else
    select array_agg(s.challenge_id)
      into challenges
      from (select challenge_id from public.submissions where session_id in (select id from old_rows) for update) as s;
  end if;
  if challenges is not null then
    perform private.lock_boards(challenges);
  end if;
  return null;
end
$$;

comment on function private.foresee_cascade() is
  'Locks the submissions that a deletion will cascade to, then their challenges'' boards.';
revoke all on function private.foresee_cascade() from public, anon, authenticated, service_role;
alter function private.foresee_cascade() owner to speedcoding_keeper;
