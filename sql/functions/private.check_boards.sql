create or replace function private.check_boards(
  out problem text, out fact text, out challenge_id uuid, out tech_stack_key text, out user_id uuid,
  out submission_id uuid, out total_ms bigint, out end_time timestamptz, out entries bigint
) returns setof record
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with truth as materialized (
    select * from private.recompute_boards()
  ),
  kept as materialized (
    select 'best' as fact, challenge_id, tech_stack_key, user_id, submission_id, total_ms, end_time, 1::bigint as entries
      from public.personal_bests
     union all
    select 'board', challenge_id, tech_stack_key, null, null, null, null, entries
      from private.boards
     where entries <> 0
     union all
    select 'bucket ' || level, challenge_id, tech_stack_key, null, null, bucket << level, null, entries
      from private.rank_buckets
     union all
    select 'record', challenge_id, tech_stack_key, null, submission_id, total_ms, end_time, 1
      from private.records
  )
  (select 'missing', truth.* from truth except all select 'missing', kept.* from kept)
   union all
  (select 'wrong', kept.* from kept except all select 'wrong', truth.* from truth)
$$;

comment on function private.check_boards() is
  'The differences between the stored boards and the boards computed from all runs. Any row shows a defect. Reads everything; safe on a live database.';
revoke all on function private.check_boards() from public, anon, authenticated, service_role;
alter function private.check_boards() owner to speedcoding_keeper;
