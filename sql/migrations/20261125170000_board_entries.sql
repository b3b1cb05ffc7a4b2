-- Boards as clients read them: with names, and with what each run was. The joins bind what is ranked to what is shown,
-- so that a board is read from its top along personal_bests_rank, however long it is.
create view public.board_entries with (security_invoker = true) as
select best.challenge_id, best.tech_stack_key, best.total_ms, run.total_time, best.end_time, best.submission_id,
       run.session_id, run.user_id, runner.username, run.tech_stack, run.packages, run.video_url, run.submitted_at
  from public.personal_bests as best
  join public.submissions as run on run.id = best.submission_id and run.user_id = best.user_id
  join public.users as runner on runner.id = best.user_id;

comment on view public.board_entries is
  'Boards: the best run of each runner. One board is one challenge_id and tech_stack_key; order by total_ms, end_time, submission_id.';
comment on column public.board_entries.challenge_id is 'The board''s challenge.';
comment on column public.board_entries.tech_stack_key is 'The board''s stack as in sessions; empty for the board of all runs.';
comment on column public.board_entries.total_ms is 'What is ranked: equal times share a rank.';
comment on column public.board_entries.total_time is 'The same for people.';
comment on column public.board_entries.end_time is 'When the run ended: of equal times the earlier stands first.';
comment on column public.board_entries.submission_id is 'The run''s submission.';
comment on column public.board_entries.session_id is 'The run.';
comment on column public.board_entries.user_id is 'The runner.';
comment on column public.board_entries.username is 'The runner''s name.';
comment on column public.board_entries.tech_stack is 'The stack in the runner''s words.';
comment on column public.board_entries.packages is 'As in submissions.';
comment on column public.board_entries.video_url is 'As in submissions.';
comment on column public.board_entries.submitted_at is 'As in submissions.';

revoke all on public.board_entries from public, anon, authenticated, service_role;
grant select on public.board_entries to anon, authenticated, service_role;
