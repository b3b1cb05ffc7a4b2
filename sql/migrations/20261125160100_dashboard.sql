-- What moderators and administrators work with in the Supabase dashboard.

-- The challenge may have been withdrawn, and is then not seen by moderators who come through PostgREST.
create view public.review_queue with (security_invoker = true) as
select u.id, u.submitted_at,
       date_trunc('minute', private.clock() - u.submitted_at) as waiting,
       challenge.slug as challenge, runner.username as runner, s.tech_stack, s.total_time, u.video_url, u.packages,
       moderator.username as claimed_by, u.revision, u.session_id, u.user_id
  from public.submissions as u
  join public.sessions as s on s.id = u.session_id
  join public.users as runner on runner.id = u.user_id
  left join public.challenges as challenge on challenge.id = u.challenge_id
  left join public.users as moderator on moderator.id = u.claimed_by
 where u.status = 'PENDING'
 order by u.submitted_at, u.id;

comment on view public.review_queue is
  'Submissions that wait for a review, the oldest first. To decide one, edit its row in submissions.';
comment on column public.review_queue.id is 'As in submissions.';
comment on column public.review_queue.submitted_at is 'As in submissions.';
comment on column public.review_queue.waiting is 'For how long.';
comment on column public.review_queue.challenge is 'The slug of what was built; empty where it has been withdrawn.';
comment on column public.review_queue.runner is 'The runner''s name.';
comment on column public.review_queue.tech_stack is 'With what, in the runner''s words.';
comment on column public.review_queue.total_time is 'How long the run took, such as "45m 12s".';
comment on column public.review_queue.video_url is 'The recording; without one nothing can be approved.';
comment on column public.review_queue.packages is 'As in submissions.';
comment on column public.review_queue.claimed_by is 'The name of the moderator who has taken it.';
comment on column public.review_queue.revision is 'As in submissions.';
comment on column public.review_queue.session_id is 'As in submissions.';
comment on column public.review_queue.user_id is 'As in submissions.';
revoke all on public.review_queue from public, anon, authenticated, service_role;
-- Moderators see all of it, runners their own part: the policies of its tables hold.
grant select on public.review_queue to authenticated, service_role;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_keeper;

create or replace function private.audit_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    insert into private.audit_log (action, user_id, subject_id, details)
    values ('user.registered', new.id, new.id, jsonb_build_object('role', new.role));
    return null;
  end if;
  if tg_op = 'DELETE' then
    -- delete_me() notes itself what its caller does.
    insert into private.audit_log (action, user_id)
    select 'user.erased', old.id where private.caller_id() is null;
    return null;
  end if;
  -- Who leaves by delete_me() is given another name, too.
  if new.username <> old.username and new.erased_at is null then
    insert into private.audit_log (action, user_id, subject_id)
    values ('user.renamed', new.id, new.id);
  end if;
  if new.role <> old.role then
    insert into private.audit_log (action, user_id, subject_id, details)
    values ('user.role_changed', new.id, new.id, jsonb_build_object('from', old.role, 'to', new.role));
  end if;
  if (new.banned_at is null) <> (old.banned_at is null) then
    insert into private.audit_log (action, user_id, subject_id)
    values (case when new.banned_at is null then 'user.unbanned' else 'user.banned' end, new.id, new.id);
  end if;
  return null;
end
$$;

comment on function private.audit_user() is 'Notes in the audit log who came, was given another name or role, banned, let in again or removed.';
revoke all on function private.audit_user() from public, anon, authenticated, service_role;
alter function private.audit_user() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_keeper;

create trigger users_audit_rows after insert or delete on public.users
  for each row execute function private.audit_user();
create trigger users_audit after update on public.users
  for each row
  when (old.username <> new.username or old.role <> new.role or (old.banned_at is null) <> (new.banned_at is null))
  execute function private.audit_user();
