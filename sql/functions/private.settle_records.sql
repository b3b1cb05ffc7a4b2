-- A record is a run that was better, when it ended, than all runs that had ended before. Almost no run is one, and to
-- find that out this reads only the records.
create or replace function private.settle_records(runs private.run[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  fallen private.records[];
  candidates private.records[];
begin
  with gone as (
    delete from private.records as kept
     using unnest(runs) as run
     cross join lateral (values (''), (run.tech_stack_key)) as board (tech_stack_key)
     where (kept.challenge_id, kept.tech_stack_key, kept.submission_id)
         = (run.challenge_id, board.tech_stack_key, run.submission_id)
       and not exists (
         select from private.counted_runs as r
          where r.submission_id = kept.submission_id
            and kept.tech_stack_key in ('', r.tech_stack_key)
            and (r.total_ms, r.end_time) = (kept.total_ms, kept.end_time)
       )
    returning kept.*
  )
  select array_agg(gone::private.records) into fallen from gone;

  select array_agg(row(r.challenge_id, board.tech_stack_key, r.submission_id, r.total_ms, r.end_time)::private.records)
    into candidates
    from unnest(runs) as run
    join private.counted_runs as r on r.submission_id = run.submission_id
   cross join lateral (values (''), (r.tech_stack_key)) as board (tech_stack_key)
   where not exists (
     select from private.records as before
      where before.challenge_id = r.challenge_id
        and before.tech_stack_key = board.tech_stack_key
        and before.total_ms <= r.total_ms
        and (before.end_time, before.total_ms, before.submission_id) <= (r.end_time, r.total_ms, r.submission_id)
   );

  -- If a record falls, runs that ended between it and the next record may become records: those that were better than
  -- the record before it. No run after the best of all is a record.
  if fallen is not null then
    select candidates || array_agg(
             row(gap.challenge_id, gap.tech_stack_key, found.submission_id, found.total_ms, found.end_time)::private.records)
      into candidates
      from (
        select ladder.*,
               lead(end_time) over steps as next_end,
               min(total_ms) filter (where not has_fallen) over steps as to_beat
          from (
            select kept.*, false as has_fallen
              from (select distinct f.challenge_id, f.tech_stack_key from unnest(fallen) as f) as board
              join private.records as kept using (challenge_id, tech_stack_key)
             union all
            select f.*, true from unnest(fallen) as f
          ) as ladder
        window steps as (partition by challenge_id, tech_stack_key order by end_time, total_ms, submission_id)
      ) as gap
     cross join lateral (
       select p.end_time
         from public.personal_bests as p
        where p.challenge_id = gap.challenge_id
          and p.tech_stack_key = gap.tech_stack_key
        order by p.total_ms, p.end_time, p.submission_id
        limit 1
     ) as best
     cross join lateral (
       select r.submission_id, r.total_ms, r.end_time,
              min(r.total_ms) over (
                order by r.end_time, r.total_ms, r.submission_id rows between unbounded preceding and 1 preceding
              ) as to_beat
         from private.counted_runs as r
        where r.challenge_id = gap.challenge_id
          and gap.tech_stack_key in ('', r.tech_stack_key)
          and r.end_time between gap.end_time and least(gap.next_end, best.end_time)
          and r.total_ms < coalesce(gap.to_beat, 9223372036854775807)
     ) as found
     where gap.has_fallen
       and (found.to_beat is null or found.total_ms < found.to_beat);
  end if;

  if candidates is not null then
    merge into private.records as kept
    using (
      select ladder.*,
             min(total_ms) over (
               partition by challenge_id, tech_stack_key order by end_time, total_ms, submission_id
               rows between unbounded preceding and 1 preceding
             ) as to_beat
        from (
          select * from unnest(candidates)
           union
          select r.*
            from (select distinct c.challenge_id, c.tech_stack_key from unnest(candidates) as c) as board
            join private.records as r using (challenge_id, tech_stack_key)
        ) as ladder
    ) as step
       on (kept.challenge_id, kept.tech_stack_key, kept.submission_id)
        = (step.challenge_id, step.tech_stack_key, step.submission_id)
     when matched and step.total_ms >= step.to_beat then
       delete
     when not matched and (step.to_beat is null or step.total_ms < step.to_beat) then
       insert (challenge_id, tech_stack_key, submission_id, total_ms, end_time)
       values (step.challenge_id, step.tech_stack_key, step.submission_id, step.total_ms, step.end_time);
  end if;
end
$$;

comment on function private.settle_records(private.run[]) is
  'Makes the history of records right again after something has happened to these runs.';
revoke all on function private.settle_records(private.run[]) from public, anon, authenticated, service_role;
alter function private.settle_records(private.run[]) owner to speedcoding_keeper;
