-- Leaderboards: derived from the runs that count, and kept by triggers in the very transaction that changes one.
--
-- A challenge has one board for all runs (its tech_stack_key is empty) and one for each stack. The triggers lock
-- rows of submissions first, because that is what fired them, and then the boards of all challenges that the
-- statement touched, in order of id; only then do they read what is true. So changes of one challenge's boards come
-- one after the other, and two that touch several challenges cannot wait for each other. No derived table has a
-- foreign key to what it is derived from: its lock would be taken in another order.

create sequence private.board_versions;
comment on sequence private.board_versions is 'Numbers the states of all boards: no two states have the same number.';

create table public.personal_bests (
  challenge_id uuid not null,
  tech_stack_key text collate "C" not null,
  user_id uuid not null,
  submission_id uuid not null,
  total_ms bigint not null,
  end_time timestamptz not null,
  primary key (challenge_id, tech_stack_key, user_id)
);
-- A board from its top, and the runs of one bucket counted.
create index personal_bests_rank on public.personal_bests
  (challenge_id, tech_stack_key, total_ms, end_time, submission_id);
create index personal_bests_user_id on public.personal_bests (user_id);

comment on table public.personal_bests is
  'The best run of each runner on each board, kept by triggers. Order by total_ms, end_time, submission_id.';
comment on column public.personal_bests.challenge_id is 'The board''s challenge.';
comment on column public.personal_bests.tech_stack_key is 'The board''s stack as in sessions; empty for the board of all runs.';
comment on column public.personal_bests.user_id is 'The runner.';
comment on column public.personal_bests.submission_id is 'The run.';
comment on column public.personal_bests.total_ms is 'What is ranked: equal times share a rank.';
comment on column public.personal_bests.end_time is 'When the run ended: of equal times the earlier stands first.';

create table private.boards (
  challenge_id uuid not null references public.challenges (id) on delete cascade,
  tech_stack_key text collate "C" not null,
  version bigint not null default 0,
  entries bigint not null default 0,
  primary key (challenge_id, tech_stack_key)
) with (fillfactor = 50);
comment on table private.boards is 'Boards that runs have been approved on; the row of all runs is the lock of its challenge''s boards.';
comment on column private.boards.challenge_id is 'The challenge.';
comment on column private.boards.tech_stack_key is 'The stack; empty for the board of all runs.';
comment on column private.boards.version is 'Another one whenever anything that the board shows changes: its ETag.';
comment on column private.boards.entries is 'How many runners are on it.';

create table private.rank_buckets (
  challenge_id uuid not null,
  tech_stack_key text collate "C" not null,
  level smallint not null,
  bucket bigint not null,
  entries bigint not null,
  primary key (challenge_id, tech_stack_key, level, bucket)
) with (fillfactor = 80);
comment on table private.rank_buckets is
  'How many personal bests have a total_ms >> level of bucket, for the levels 20, 15, 10 and 6: a rank is a few sums.';
comment on column private.rank_buckets.challenge_id is 'The board''s challenge.';
comment on column private.rank_buckets.tech_stack_key is 'The board''s stack.';
comment on column private.rank_buckets.level is 'A bucket is 2 to the power of so many milliseconds wide.';
comment on column private.rank_buckets.bucket is 'The bucket''s number.';
comment on column private.rank_buckets.entries is 'How many are in it; a bucket without any has no row.';

create table private.records (
  challenge_id uuid not null,
  tech_stack_key text collate "C" not null,
  submission_id uuid not null,
  total_ms bigint not null,
  end_time timestamptz not null,
  primary key (challenge_id, tech_stack_key, submission_id)
);
comment on table private.records is
  'The runs that count and were better, when they ended, than all that had ended before on their board.';
comment on column private.records.challenge_id is 'The board''s challenge.';
comment on column private.records.tech_stack_key is 'The board''s stack.';
comment on column private.records.submission_id is 'The run.';
comment on column private.records.total_ms is 'Its time: less than that of the record before.';
comment on column private.records.end_time is 'When it was set.';

create view private.counted_runs with (security_invoker = true) as
select s.id as submission_id, s.user_id, s.challenge_id, s.tech_stack_key, s.total_ms, s.end_time
  from public.submissions as s
 where s.status = 'APPROVED'
   and not exists (select from public.users as u where u.id = s.user_id and u.banned_at is not null);
comment on view private.counted_runs is 'The runs that count: approved, their runner not banned.';
comment on column private.counted_runs.submission_id is 'The run.';
comment on column private.counted_runs.user_id is 'Its runner.';
comment on column private.counted_runs.challenge_id is 'Its challenge.';
comment on column private.counted_runs.tech_stack_key is 'Its stack.';
comment on column private.counted_runs.total_ms is 'Its time.';
comment on column private.counted_runs.end_time is 'When it ended.';

-- A runner's next best, when the best falls.
create index submissions_best on public.submissions (user_id, challenge_id, total_ms, end_time, id)
  where status = 'APPROVED';
-- What was a record between two others, when one falls.
create index submissions_record on public.submissions (challenge_id, end_time, total_ms, id)
  where status = 'APPROVED';
create index users_banned on public.users (id) where banned_at is not null;

revoke all on public.personal_bests, private.boards, private.rank_buckets, private.records, private.counted_runs from
  public, anon, authenticated, service_role;
revoke all on sequence private.board_versions from public, anon, authenticated, service_role;
alter table public.personal_bests enable row level security;
alter table private.boards enable row level security;
alter table private.rank_buckets enable row level security;
alter table private.records enable row level security;
-- Everyone reads the boards of challenges that are ranked. Those of the others are kept too, unseen, so that
-- switching `ranked` is one row's change whatever the board's size. (The policies of challenges read no table.)
create policy personal_bests_read on public.personal_bests for select to anon, authenticated
  using (challenge_id in (select id from public.challenges where ranked));
-- The functions that read a board have asked whether it is ranked.
create policy personal_bests_rules on public.personal_bests for select to speedcoding_writer using (true);
create policy boards_rules on private.boards for select to speedcoding_writer using (true);
create policy rank_buckets_rules on private.rank_buckets for select to speedcoding_writer using (true);
create policy records_rules on private.records for select to speedcoding_writer using (true);
-- Triggers keep them, and nobody else.
create policy personal_bests_keep on public.personal_bests for all to speedcoding_keeper using (true) with check (true);
create policy boards_keep on private.boards for all to speedcoding_keeper using (true) with check (true);
create policy rank_buckets_keep on private.rank_buckets for all to speedcoding_keeper using (true) with check (true);
create policy records_keep on private.records for all to speedcoding_keeper using (true) with check (true);
grant select on public.personal_bests to anon, authenticated, service_role;
grant select on public.personal_bests, private.boards, private.rank_buckets, private.records to speedcoding_writer;
grant select, insert, update, delete on
  public.personal_bests, private.boards, private.rank_buckets, private.records to speedcoding_keeper;
grant select on private.counted_runs to speedcoding_keeper;
grant usage on sequence private.board_versions to speedcoding_keeper;
grant select (id, user_id, challenge_id, status) on public.submissions to speedcoding_keeper;

create type private.run as (submission_id uuid, challenge_id uuid, user_id uuid, tech_stack_key text);
comment on type private.run is 'A run that something has happened to; twice, where it went from one stack to another.';
create type private.move as (
  challenge_id uuid,
  tech_stack_key text,
  user_id uuid,
  had_ms bigint,
  submission_id uuid,
  total_ms bigint,
  end_time timestamptz
);
comment on type private.move is 'A runner''s place on a board: the time that it had, and the best run now; null for none.';

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_keeper;

create or replace function private.lock_boards(challenges uuid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  insert into private.boards (challenge_id, tech_stack_key)
  select distinct challenge, ''
    from unnest(challenges) as challenge
   where not exists (select from private.boards as b where b.challenge_id = challenge and b.tech_stack_key = '')
   order by challenge
      on conflict do nothing;
  perform
     from private.boards
    where challenge_id = any (challenges)
      and tech_stack_key = ''
    order by challenge_id
      for no key update;
end
$$;

comment on function private.lock_boards(uuid[]) is
  'Makes this transaction the only one that changes these challenges'' boards, locked in order of id.';
revoke all on function private.lock_boards(uuid[]) from public, anon, authenticated, service_role;
alter function private.lock_boards(uuid[]) owner to speedcoding_keeper;

-- Knows not what has changed, only whose: it compares what is kept with what is true now, each runner on each board.
-- Each statement after the lock sees what others have committed before it. Planned once, and for few runs: for many it
-- looks each of them up just so.
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

-- Of the runs in order of their ends, a record is one that is better than all before it. Almost no run is one, and
-- then this finds so by looking at the records alone.
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

  -- In the place of one that has fallen may stand what ended after it, before the next record, and was better than
  -- the one before it. Nothing after the best of all is a record.
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

create or replace function private.follow_submissions() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  runs private.run[];
begin
  case tg_op
    when 'INSERT' then
      select array_agg(row(n.id, n.challenge_id, n.user_id, n.tech_stack_key)::private.run)
        into runs
        from new_rows as n
       where n.status = 'APPROVED';
    when 'UPDATE' then
      select array_agg(row(o.id, o.challenge_id, o.user_id, board.tech_stack_key)::private.run)
        into runs
        from old_rows as o
        join new_rows as n on n.id = o.id
       cross join lateral (
         select o.tech_stack_key union select n.tech_stack_key
       ) as board
       where 'APPROVED' in (o.status, n.status)
         -- All that boards show.
         and (o.status, o.tech_stack, o.tech_stack_key, o.total_ms, o.end_time, o.packages, o.video_url, o.submitted_at)
           is distinct from
             (n.status, n.tech_stack, n.tech_stack_key, n.total_ms, n.end_time, n.packages, n.video_url, n.submitted_at);
    else
      select array_agg(row(o.id, o.challenge_id, o.user_id, o.tech_stack_key)::private.run)
        into runs
        from old_rows as o
       where o.status = 'APPROVED';
  end case;
  if runs is not null then
    perform private.settle_boards(runs);
  end if;
  return null;
end
$$;

comment on function private.follow_submissions() is 'Lets the boards follow what a statement did to submissions.';
revoke all on function private.follow_submissions() from public, anon, authenticated, service_role;
alter function private.follow_submissions() owner to speedcoding_keeper;

-- Whose runs count, and by which name, is asked without a lock on the account. So nobody else may settle boards while
-- that changes: an approval that cannot be seen from here yet would put a banned runner on a board.
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

comment on function private.follow_users() is 'Lets the boards follow bans and changes of names.';
revoke all on function private.follow_users() from public, anon, authenticated, service_role;
alter function private.follow_users() owner to speedcoding_keeper;

-- A cascade deletes submissions session by session, in a statement each. All that it will need is locked before the
-- first, in the same order as by everybody else. The rows that were deleted stand in old_rows as they were deleted.
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
  -- Sessions before submissions, as whoever corrects one locks them; and whatever names a moderator who goes.
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
  'What boards are by definition, computed from all runs that count: the truth that the triggers must arrive at.';
revoke all on function private.recompute_boards() from public, anon, authenticated, service_role;
alter function private.recompute_boards() owner to speedcoding_keeper;

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
  'Where what is kept differs from what is true: nothing, or there is a defect. Reads everything; safe on a live database.';
revoke all on function private.check_boards() from public, anon, authenticated, service_role;
alter function private.check_boards() owner to speedcoding_keeper;

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
  'Makes all boards anew from the runs that count: after rows were loaded past the triggers, or check_boards() found something.';
revoke all on function private.rebuild_boards() from public, anon, authenticated, service_role;
alter function private.rebuild_boards() owner to speedcoding_keeper;

create or replace function private.empty_boards() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.rebuild_boards();
  return null;
end
$$;

comment on function private.empty_boards() is 'Lets the boards follow a TRUNCATE.';
revoke all on function private.empty_boards() from public, anon, authenticated, service_role;
alter function private.empty_boards() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_keeper;

create trigger submissions_follow_insert after insert on public.submissions
  referencing new table as new_rows
  for each statement execute function private.follow_submissions();
create trigger submissions_follow_update after update on public.submissions
  referencing old table as old_rows new table as new_rows
  for each statement execute function private.follow_submissions();
create trigger submissions_follow_delete after delete on public.submissions
  referencing old table as old_rows
  for each statement execute function private.follow_submissions();
create trigger submissions_follow_truncate after truncate on public.submissions
  for each statement execute function private.empty_boards();
create trigger users_follow after update on public.users
  referencing old table as old_rows new table as new_rows
  for each statement execute function private.follow_users();
-- Triggers fire in order of their names: before those of the foreign keys, RI_…, which cascade.
create trigger "0_foresee_cascade" after delete on public.users
  referencing old table as old_rows
  for each row execute function private.foresee_cascade();
create trigger "0_foresee_cascade" after delete on public.sessions
  referencing old table as old_rows
  for each row execute function private.foresee_cascade();
