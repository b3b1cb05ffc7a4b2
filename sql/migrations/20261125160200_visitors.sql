-- How long a count takes must not tell a visitor how many rows there are that he may not see. With the role of the
-- caller among its conditions a policy looks at every row; that of visitors has one that these indexes answer.
alter policy sessions_read on public.sessions to authenticated, speedcoding_writer;
alter policy milestones_read on public.milestones to authenticated, speedcoding_writer;
alter policy submissions_read on public.submissions to authenticated, speedcoding_writer;
-- Visitors see what is published.
create policy sessions_visit on public.sessions for select to anon using (published);
create policy milestones_visit on public.milestones for select to anon using (published);
create policy submissions_visit on public.submissions for select to anon using (status = 'APPROVED');
create index sessions_published on public.sessions (user_id, id) where published;
create index milestones_published on public.milestones (user_id, session_id) where published;
create index submissions_approved on public.submissions (user_id, session_id) where status = 'APPROVED';
