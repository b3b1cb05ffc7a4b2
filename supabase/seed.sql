-- A small season to look at: moderators, runners, their runs with splits, submissions in every status. Boards follow by
-- the triggers. Run again, it adds nothing; what has been changed or removed since stays so. Nobody of it has a
-- password, so nobody can log in as one of them. All ids begin with 00000000-5eed, and this removes all of it:
--   delete from public.users where id::text like '00000000-5eed-%';
with people (number, username, role, created_at) as (
  values
    (1, 'nadia-reviews', 'moderator', '2026-09-01 08:00+00'),
    (2, 'tomasz_mod', 'moderator', '2026-09-01 08:05+00'),
    (3, 'checkbot', 'verifier', '2026-09-01 08:10+00'),
    (11, 'lin-builds', 'runner', '2026-09-14 17:21+00'),
    (12, 'pia_codes', 'runner', '2026-09-16 06:48+00'),
    (13, 'kestrel77', 'runner', '2026-09-19 20:03+00'),
    (14, 'oduya', 'runner', '2026-09-22 12:30+00'),
    (15, 'yuki_ships', 'runner', '2026-09-27 01:15+00'),
    (16, 'juno_dev', 'runner', '2026-10-02 15:40+00'),
    (17, 'rafa-m', 'runner', '2026-10-03 21:59+00'),
    (18, 'sven_o', 'runner', '2026-10-05 09:12+00'),
    (19, 'speedhax', 'runner', '2026-10-08 23:30+00')
),
-- Splits in seconds; a run without `handed_in` was ended in another way than with a submission.
runs (number, runner, challenge, tech_stack, start_time, splits, total_ms, status, handed_in, reviewer, reason, packages) as (
  values
    (1, 11, 'slack-clone', 'Rust, Postgres', '2026-10-01 18:02+00',
     '{1260,2530,3920,5470,6830,8110,9640}'::integer[], 9672418, 'completed', 'APPROVED', 1, null, '{axum,sqlx,tokio,tower}'),
    (2, 12, 'slack-clone', 'TypeScript, Next.js, Supabase', '2026-10-02 07:10+00',
     '{610,1330,2050,2480,3590,4700,5480}', 5520907, 'completed', 'APPROVED', 1, null, '{next,react,@supabase/supabase-js,tailwindcss}'),
    (3, 13, 'slack-clone', 'Elixir, Phoenix', '2026-10-03 20:30+00',
     '{540,1120,1640,1890,2970,3950,4630}', 4683250, 'completed', 'APPROVED', 2, null, '{phoenix,phoenix_live_view,ecto_sql,bcrypt_elixir}'),
    (4, 14, 'slack-clone', 'Go + Postgres', '2026-10-04 11:00+00',
     '{800,1710,2600,3540,4690,5820,6870}', 6915333, 'completed', 'APPROVED', 2, null, '{chi,pgx,gorilla/websocket}'),
    (5, 15, 'slack-clone', 'Ruby on Rails', '2026-10-05 02:20+00',
     '{420,980,1510,2240,3100,4020,4640}', 4683250, 'completed', 'APPROVED', 1, 'Splits checked twice: it is a tie.', '{rails,devise,turbo-rails,pg_search}'),
    (6, 18, 'slack-clone', 'Python, Django', '2026-10-06 09:40+00',
     '{900,1950,3020,4800,6900}', 9120000, 'incomplete', null, null, null, '{}'),
    (7, 17, 'slack-clone', 'PHP, Laravel', '2026-10-06 19:05+00',
     '{700,1620,2410,3300,4450,5600,6150}', 6201780, 'completed', 'REJECTED', 1, 'The recording ends before search is shown.', '{laravel/framework,laravel/reverb,laravel/scout}'),
    (8, 19, 'slack-clone', 'Rust', '2026-10-08 23:45+00',
     '{9,18,27,36,45,54,63}', 64001, 'completed', 'APPROVED', 2, null, '{prebuilt}'),
    (9, 11, 'slack-clone', 'Postgres & Rust', '2026-10-10 16:30+00',
     '{980,1940,3010,4180,5330,6390,7460}', 7512066, 'completed', 'APPROVED', 2, null, '{axum,sqlx,tokio,askama}'),
    (10, 17, 'slack-clone', 'PHP, Laravel', '2026-10-11 18:00+00',
     '{650,1480}', 2230500, 'abandoned', null, null, null, '{}'),
    (11, 16, 'slack-clone', 'Kotlin, Ktor', '2026-10-12 14:00+00',
     '{1500}', 86400000, 'expired', null, null, null, '{}'),
    (12, 18, 'freestyle', 'Python, HTMX', '2026-10-14 10:00+00',
     '{1200,2600,4100}', 5403999, 'completed', 'APPROVED', 1, null, '{fastapi,jinja2}'),
    (13, 12, 'slack-clone', 'TypeScript, Next.js, Supabase', '2026-10-18 07:00+00',
     '{500,1090,1700,2060,2910,3860,4480}', 4517610, 'completed', 'PENDING', null, null, '{next,react,@supabase/supabase-js}'),
    (14, 16, 'slack-clone', 'Kotlin, Ktor', '2026-10-19 13:30+00',
     '{1010,2080,3150,4440,5690,6880,8020}', 8077215, 'completed', 'PENDING', null, null, '{ktor-server,exposed,kotlinx-coroutines}')
),
added_users as (
  insert into public.users (id, username, role, created_at)
  select ('00000000-5eed-7000-8000-' || lpad(number::text, 12, '0'))::uuid, username, role::public.user_role,
         created_at::timestamptz
    from people
      on conflict do nothing
  returning id
),
added_bans as (
  insert into public.bans (user_id, banned_at)
  select id, '2026-10-11 10:00+00' from added_users where id = '00000000-5eed-7000-8000-000000000019'
),
added_sessions as (
  insert into public.sessions (id, user_id, challenge_id, tech_stack, start_time, end_time, deadline, status)
  select ('00000000-5eed-7000-8001-' || lpad(r.number::text, 12, '0'))::uuid, u.id, c.id, r.tech_stack,
         r.start_time::timestamptz, r.start_time::timestamptz + r.total_ms * interval '1 millisecond',
         r.start_time::timestamptz + c.max_duration, r.status::public.session_status
    from runs as r
    join added_users as u on u.id = ('00000000-5eed-7000-8000-' || lpad(r.runner::text, 12, '0'))::uuid
    join public.challenges as c on c.slug = r.challenge
  returning id, user_id, challenge_id, tech_stack, tech_stack_key, start_time, end_time, total_ms
),
added_runs as (
  select s.*, r.number, r.splits, r.handed_in, r.reviewer, r.reason, r.packages
    from added_sessions as s
    join runs as r on s.id = ('00000000-5eed-7000-8001-' || lpad(r.number::text, 12, '0'))::uuid
),
added_milestones as (
  insert into public.milestones (id, session_id, user_id, milestone_number, passed, completed_at, attempts)
  select ('00000000-5eed-7000-8002-' || lpad((r.number * 10 + split.number)::text, 12, '0'))::uuid, r.id, r.user_id,
         split.number, true, r.start_time + split.seconds * interval '1 second', 1
    from added_runs as r
   cross join unnest(r.splits) with ordinality as split (seconds, number)
),
added_submissions as (
  insert into public.submissions (
    id, session_id, user_id, challenge_id, tech_stack, tech_stack_key, total_ms, end_time, packages, video_url,
    submitted_at, status, reviewed_at, review_reason)
  select ('00000000-5eed-7000-8003-' || lpad(r.number::text, 12, '0'))::uuid, r.id, r.user_id, r.challenge_id,
         r.tech_stack, r.tech_stack_key, r.total_ms, r.end_time, r.packages::text[],
         'https://youtu.be/seed-run-' || lpad(r.number::text, 2, '0'),
         r.end_time, r.handed_in::public.submission_status,
         case when r.handed_in <> 'PENDING' then r.end_time + interval '1 day' end,
         case when r.handed_in = 'REJECTED' then r.reason end
    from added_runs as r
   where r.handed_in is not null
  returning id, user_id, revision, status, reviewed_at
),
added_reviews as (
  insert into private.reviews (id, submission_id, user_id, revision, decision, reason, reviewed_by, reviewed_at)
  select ('00000000-5eed-7000-8004-' || lpad(r.number::text, 12, '0'))::uuid, s.id, s.user_id, s.revision, s.status::text,
         r.reason, moderator.id, s.reviewed_at
    from added_submissions as s
    join added_runs as r on s.id = ('00000000-5eed-7000-8003-' || lpad(r.number::text, 12, '0'))::uuid
    left join added_users as moderator
      on moderator.id = ('00000000-5eed-7000-8000-' || lpad(r.reviewer::text, 12, '0'))::uuid
   where s.status <> 'PENDING'
)
select (select count(*) from added_users) as users, (select count(*) from added_sessions) as runs;
