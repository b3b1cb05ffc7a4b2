-- Results number $1 to $2: a runner each, with one approved run. Times have a long tail, as such times do; ids grow
-- with time, as real ones do. Everything follows from the number, so that a fill can be continued. Triggers are off:
-- private.rebuild_boards() does their work at the end, for all at once.
with numbered as (
  select n,
         timestamptz '2026-01-01' + n * interval '1 second' as end_time,
         least(1200000 - ln(chance) * 3600000, 86000000)::bigint as total_ms,
         (array['Rust', 'Go', 'Python, Django', 'TypeScript, Next.js', 'Elixir, Phoenix', 'Ruby, Rails', 'Java, Spring',
                'C#, .NET', 'PHP, Laravel', 'Kotlin', 'Swift', 'Zig', 'Rust, Postgres', 'Go, SQLite', 'Clojure',
                'Haskell', 'OCaml', 'C++', 'Svelte', 'Vue'])[ceil(20 * other_chance * other_chance)] as tech_stack
    from generate_series($1::bigint, $2) as n
   cross join lateral (
     select (1 + (hashint8extended(n, 1) & 1073741823)) / 1073741824.0::float8 as chance,
            (1 + (hashint8extended(n, 2) & 1073741823)) / 1073741824.0::float8 as other_chance
   ) as dice
),
results as (
  select numbered.*, c.id as challenge_id, private.tech_stack_key(tech_stack) as tech_stack_key,
         end_time - total_ms * interval '1 millisecond' as start_time,
         (
           lpad(to_hex((extract(epoch from end_time) * 1000)::bigint), 12, '0')
           || '7000' || overlay(md5(n::text) placing '8' from 1 for 1)::char(16)
         )::uuid as id
    from numbered, public.challenges as c
   where c.slug = 'slack-clone'
),
users as (
  insert into public.users (id, username, created_at)
  select id, 'runner_' || n, start_time from results
),
sessions as (
  insert into public.sessions
    (id, user_id, challenge_id, tech_stack, tech_stack_key, start_time, end_time, deadline, status, published)
  select id, id, challenge_id, tech_stack, tech_stack_key, start_time, end_time, start_time + interval '24 hours', 'completed', true
    from results
)
insert into public.submissions
  (id, session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages, video_url,
   submitted_at, status, reviewed_at)
select id, id, id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time,
       '{tokio,poem,serde,tokio-postgres,argon2}', 'https://www.youtube.com/watch?v=' || left(md5(n::text), 11), end_time, 'APPROVED',
       end_time + interval '1 hour'
  from results
