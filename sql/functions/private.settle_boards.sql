-- Its callers say which runs changed, but not how. It compares the stored boards with the runs that count now, for each
-- runner on each board. Each statement after the lock sees what others committed before. PostgreSQL keeps one plan, made
-- for few runs, and uses it for many runs, too.
create or replace function private.settle_boards(runs private.run[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  moves private.move[];
begin
  perform private.lock_boards(array(select challenge_id from unnest(runs)));
  insert into private.boards (challenge_id, tech_stack_key)
  select challenge_id, tech_stack_key from unnest(runs)
      on conflict do nothing;

  select array_agg(row(place.challenge_id, place.tech_stack_key, place.user_id, had.total_ms,
                       best.submission_id, best.total_ms, best.end_time)::private.move)
    into moves
    from (
      select distinct run.challenge_id, board.tech_stack_key, run.user_id
        from unnest(runs) as run
       cross join lateral (values (''), (run.tech_stack_key)) as board (tech_stack_key)
    ) as place
    left join public.personal_bests as had using (challenge_id, tech_stack_key, user_id)
    left join lateral (
      select r.submission_id, r.total_ms, r.end_time
        from private.counted_runs as r
       where r.user_id = place.user_id
         and r.challenge_id = place.challenge_id
         and place.tech_stack_key in ('', r.tech_stack_key)
       order by r.total_ms, r.end_time, r.submission_id
       limit 1
    ) as best on true;

  merge into public.personal_bests as p
  using unnest(moves) as m
     on (p.challenge_id, p.tech_stack_key, p.user_id) = (m.challenge_id, m.tech_stack_key, m.user_id)
   when matched and m.submission_id is null then
     delete
   when matched and (p.submission_id, p.total_ms, p.end_time)
     is distinct from (m.submission_id, m.total_ms, m.end_time) then
     update set submission_id = m.submission_id, total_ms = m.total_ms, end_time = m.end_time
   when not matched and m.submission_id is not null then
     insert (challenge_id, tech_stack_key, user_id, submission_id, total_ms, end_time)
     values (m.challenge_id, m.tech_stack_key, m.user_id, m.submission_id, m.total_ms, m.end_time);

  merge into private.rank_buckets as b
  using (
    select m.challenge_id, m.tech_stack_key, level, change.total_ms >> level as bucket, sum(change.entries) as entries
      from unnest(moves) as m
     cross join lateral (values (m.had_ms, -1), (m.total_ms, 1)) as change (total_ms, entries)
     cross join unnest('{20,15,10,6}'::smallint[]) as level
     where change.total_ms is not null
     group by m.challenge_id, m.tech_stack_key, level, bucket
    having sum(change.entries) <> 0
  ) as m
     on (b.challenge_id, b.tech_stack_key, b.level, b.bucket) = (m.challenge_id, m.tech_stack_key, m.level, m.bucket)
   when matched and b.entries + m.entries = 0 then
     delete
   when matched then
     update set entries = b.entries + m.entries
   when not matched then
     insert (challenge_id, tech_stack_key, level, bucket, entries)
     values (m.challenge_id, m.tech_stack_key, m.level, m.bucket, m.entries);

  update private.boards as b
     set version = nextval('private.board_versions'), entries = b.entries + m.change
    from (
      select challenge_id, tech_stack_key, count(total_ms) - count(had_ms) as change
        from unnest(moves)
       group by challenge_id, tech_stack_key
    ) as m
   where (b.challenge_id, b.tech_stack_key) = (m.challenge_id, m.tech_stack_key);

  perform private.settle_records(runs);
end
$$;

comment on function private.settle_boards(private.run[]) is
  'Makes personal bests, ranks, records and versions right again after something has happened to these runs.';
revoke all on function private.settle_boards(private.run[]) from public, anon, authenticated, service_role;
alter function private.settle_boards(private.run[]) owner to speedcoding_keeper;
