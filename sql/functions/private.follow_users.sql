-- Boards read bans and names without a lock on the account. So no other transaction may change boards while a ban or a
-- name changes. Otherwise an approval that this transaction cannot see yet would put a banned runner on a board.
create or replace function private.follow_users() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  changed uuid[];
  runs private.run[];
begin
  select array_agg(n.id)
    into changed
    from old_rows as o
    join new_rows as n on n.id = o.id
   where (n.username, n.banned_at is null) is distinct from (o.username, o.banned_at is null);
  if changed is null then
    return null;
  end if;
  lock table private.boards in exclusive mode;
  select array_agg(row(s.id, s.challenge_id, s.user_id, s.tech_stack_key)::private.run)
    into runs
    from public.submissions as s
   where s.user_id = any (changed)
     and s.status = 'APPROVED';
  if runs is not null then
    perform private.settle_boards(runs);
  end if;
  return null;
end
$$;

comment on function private.follow_users() is 'Brings the boards up to date after bans and changes of names.';
revoke all on function private.follow_users() from public, anon, authenticated, service_role;
alter function private.follow_users() owner to speedcoding_keeper;
