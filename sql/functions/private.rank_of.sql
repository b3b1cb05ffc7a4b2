-- Counts whole buckets of faster times, from wide to narrow, and then the single runs in the last narrow bucket.
create or replace function private.rank_of(challenge uuid, stack_key text, run_ms bigint) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  return 1
    + coalesce((
        select sum(b.entries)
          from private.rank_buckets as b
         where b.challenge_id = challenge and b.tech_stack_key = stack_key and b.level = 20
           and b.bucket < run_ms >> 20
      ), 0)
    + coalesce((
        select sum(b.entries)
          from private.rank_buckets as b
         where b.challenge_id = challenge and b.tech_stack_key = stack_key and b.level = 15
           and b.bucket >= (run_ms >> 20) << 5 and b.bucket < run_ms >> 15
      ), 0)
    + coalesce((
        select sum(b.entries)
          from private.rank_buckets as b
         where b.challenge_id = challenge and b.tech_stack_key = stack_key and b.level = 10
           and b.bucket >= (run_ms >> 15) << 5 and b.bucket < run_ms >> 10
      ), 0)
    + coalesce((
        select sum(b.entries)
          from private.rank_buckets as b
         where b.challenge_id = challenge and b.tech_stack_key = stack_key and b.level = 6
           and b.bucket >= (run_ms >> 10) << 4 and b.bucket < run_ms >> 6
      ), 0)
    + (
        select count(*)
          from public.personal_bests as p
         where p.challenge_id = challenge and p.tech_stack_key = stack_key
           and p.total_ms >= (run_ms >> 6) << 6 and p.total_ms < run_ms
      );
end
$$;

comment on function private.rank_of(uuid, text, bigint) is
  'The rank of a time on a board: one more than the number of faster runners. Equal times share it (1, 2, 2, 4).';
revoke all on function private.rank_of(uuid, text, bigint) from public, anon, authenticated, service_role;
alter function private.rank_of(uuid, text, bigint) owner to speedcoding_writer;
