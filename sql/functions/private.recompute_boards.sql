create or replace function private.recompute_boards(
  out fact text, out challenge_id uuid, out tech_stack_key text, out user_id uuid, out submission_id uuid,
  out total_ms bigint, out end_time timestamptz, out entries bigint
) returns setof record
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with runs as (
    select r.challenge_id, board.tech_stack_key, r.user_id, r.submission_id, r.total_ms, r.end_time
      from private.counted_runs as r
     cross join lateral (values (''), (r.tech_stack_key)) as board (tech_stack_key)
  ),
  bests as materialized (
    select distinct on (challenge_id, tech_stack_key, user_id) *
      from runs
     order by challenge_id, tech_stack_key, user_id, total_ms, end_time, submission_id
  )
  select 'best', challenge_id, tech_stack_key, user_id, submission_id, total_ms, end_time, 1 from bests
   union all
  select 'board', challenge_id, tech_stack_key, null, null, null, null, count(*)
    from bests
   group by challenge_id, tech_stack_key
   union all
  select 'bucket ' || level, challenge_id, tech_stack_key, null, null, total_ms >> level << level, null, count(*)
    from bests
   cross join unnest('{20,15,10,6}'::integer[]) as level
   group by challenge_id, tech_stack_key, level, total_ms >> level
   union all
  select 'record', challenge_id, tech_stack_key, null, submission_id, total_ms, end_time, 1
    from (
      select *,
             min(total_ms) over (
               partition by challenge_id, tech_stack_key order by end_time, total_ms, submission_id
               rows between unbounded preceding and 1 preceding
             ) as to_beat
        from runs
    ) as ladder
   where to_beat is null
      or total_ms < to_beat
$$;

comment on function private.recompute_boards() is
  'Computes the boards from all runs that count. The triggers must arrive at the same.';
revoke all on function private.recompute_boards() from public, anon, authenticated, service_role;
alter function private.recompute_boards() owner to speedcoding_keeper;
