-- A cascade deletes the submissions of each session in a statement of its own. This function locks all rows that the
-- cascade will need before the first of them, in the same order as every other function. old_rows holds the deleted
-- rows.
create or replace function private.foresee_cascade() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  gone uuid[];
  challenges uuid[];
begin
  if old.id <> (select o.id from old_rows as o limit 1) then
    return null;
  end if;
  gone := array(select id from old_rows);
  -- Sessions before submissions, as a correction locks them. Also every row that names a moderator who is deleted.
  perform from public.sessions where user_id = any (gone) order by id for update;
  select array_agg(s.challenge_id) filter (where s.user_id = any (gone) or s.session_id = any (gone))
    into challenges
    from (
      select challenge_id, user_id, session_id
        from public.submissions
       where user_id = any (gone)
          or session_id = any (gone)
          or claimed_by = any (gone)
          or reviewed_by = any (gone)
       order by id
         for update
    ) as s;
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
