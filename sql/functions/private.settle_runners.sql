-- Boards read bans and names without a lock on the account. So nothing else may settle boards while these change: an
-- approval that this transaction cannot see yet would put a banned runner on a board.
create or replace function private.settle_runners(changed uuid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  runs private.run[];
begin
  if changed is null then
    return;
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
end
$$;

comment on function private.settle_runners(uuid[]) is
  'Makes the boards right again after users were banned, let in again or given another name. Null for none.';
revoke all on function private.settle_runners(uuid[]) from public, anon, authenticated, service_role;
alter function private.settle_runners(uuid[]) owner to speedcoding_keeper;
