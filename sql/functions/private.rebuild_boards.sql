create or replace function private.rebuild_boards() returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  lock table private.boards in exclusive mode;
  delete from public.personal_bests;
  delete from private.rank_buckets;
  delete from private.records;
  update private.boards set version = nextval('private.board_versions'), entries = 0;
  with truth as materialized (
    select * from private.recompute_boards()
  ),
  bests as (
    insert into public.personal_bests (challenge_id, tech_stack_key, user_id, submission_id, total_ms, end_time)
    select challenge_id, tech_stack_key, user_id, submission_id, total_ms, end_time from truth where fact = 'best'
  ),
  buckets as (
    insert into private.rank_buckets (challenge_id, tech_stack_key, level, bucket, entries)
    select challenge_id, tech_stack_key, level, total_ms >> level, entries
      from truth
     cross join lateral cast(split_part(fact, ' ', 2) as smallint) as level
     where fact like 'bucket %'
  ),
  records as (
    insert into private.records (challenge_id, tech_stack_key, submission_id, total_ms, end_time)
    select challenge_id, tech_stack_key, submission_id, total_ms, end_time from truth where fact = 'record'
  )
  insert into private.boards as b (challenge_id, tech_stack_key, version, entries)
  select challenge_id, tech_stack_key, nextval('private.board_versions'), entries from truth where fact = 'board'
      on conflict (challenge_id, tech_stack_key) do update set entries = excluded.entries;
end
$$;

comment on function private.rebuild_boards() is
  'Makes all boards anew from the runs that count. Call it after rows were loaded without triggers, or when check_boards() found a difference.';
revoke all on function private.rebuild_boards() from public, anon, authenticated, service_role;
alter function private.rebuild_boards() owner to speedcoding_keeper;
