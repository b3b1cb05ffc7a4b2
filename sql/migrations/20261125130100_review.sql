-- Review: who takes a submission, who decides on it, and what is recorded of it whoever does.

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer, speedcoding_keeper;

-- The dashboard gives a session and what it handed in: the rest follows.
create or replace function private.complete_submission() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  session public.sessions;
begin
  if exists (select from public.submissions where session_id = new.session_id) then
    perform private.refuse(409, 'submission_exists', 'This session has handed in already: there is one submission for each.');
  end if;
  select * into session from public.sessions where id = new.session_id;
  -- Where there is none, the foreign key says so; an import may bring both in one statement.
  if found then
    if session.status <> 'completed' then
      perform private.refuse(409, 'session_not_completed',
        format('Only a session that is completed hands in, and this one is %s.', session.status));
    end if;
    new.user_id := session.user_id;
    new.challenge_id := session.challenge_id;
    new.tech_stack := session.tech_stack;
    new.tech_stack_key := session.tech_stack_key;
    new.total_ms := session.total_ms;
    new.end_time := session.end_time;
  end if;
  if new.status <> 'PENDING' then
    new.reviewed_at := coalesce(new.reviewed_at, private.clock());
  end if;
  return new;
end
$$;

comment on function private.complete_submission() is
  'Copies the run of a new submission from its session, and refuses a second one or one without a completed session.';
revoke all on function private.complete_submission() from public, anon, authenticated, service_role;
alter function private.complete_submission() owner to speedcoding_keeper;

-- Fires before the update, behind the guard: only there can what was noted still be taken out of a row that everyone
-- is about to read.
create or replace function private.record_submission() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  subject public.submissions := case when tg_op = 'DELETE' then old else new end;
  happened text := case tg_op when 'INSERT' then 'handed_in' when 'DELETE' then 'deleted' end;
begin
  if tg_op = 'UPDATE' then
    happened := case
      when new.status <> old.status and new.status <> 'PENDING' then lower(new.status::text)
      when new.status <> old.status and private.caller_id() = new.user_id then 'resubmitted'
      when new.status <> old.status then 'reopened'
      when new.revision <> old.revision then 'edited'
      when new.claimed_by is distinct from old.claimed_by and new.claimed_by is null then 'released'
      when new.claimed_by is distinct from old.claimed_by then 'claimed'
      -- What is generated is not there yet.
      when to_jsonb(new) - 'total_time' is distinct from to_jsonb(old) - 'total_time' then 'corrected'
    end;
    if happened in ('approved', 'rejected', 'reopened') then
      insert into private.reviews (submission_id, user_id, revision, decision, reason, reviewed_by)
      values (new.id, new.user_id, new.revision, upper(happened), nullif(btrim(new.review_reason), ''),
              case when happened = 'reopened' then private.caller_id() else new.reviewed_by end);
    end if;
  end if;
  if happened is not null then
    insert into private.audit_log (action, user_id, subject_id, details)
    values ('submission.' || happened, subject.user_id, subject.id, jsonb_strip_nulls(jsonb_build_object(
      'revision', subject.revision, 'status', subject.status,
      'claimedBy', subject.claimed_by, 'reviewedBy', subject.reviewed_by)));
  end if;
  if tg_op = 'UPDATE' and new.status = 'APPROVED' then
    new.claimed_by := null;
    new.reviewed_by := null;
    new.review_reason := null;
  end if;
  return new;
end
$$;

comment on function private.record_submission() is
  'Writes what happens to a submission into the audit log, decisions also into private.reviews; leaves no note in an approved row.';
revoke all on function private.record_submission() from public, anon, authenticated, service_role;
alter function private.record_submission() owner to speedcoding_keeper;

-- What a row was before somebody changed it by hand. Runners' and verifiers' own doings do not come here: the rows say
-- when they happened, and no trigger lets them be undone.
create or replace function private.record_change() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  subject jsonb := coalesce(after, before);
begin
  insert into private.audit_log (action, user_id, subject_id, details)
  select tg_argv[0] || case tg_op when 'INSERT' then '.added' when 'UPDATE' then '.changed' else '.deleted' end,
         (subject ->> 'user_id')::uuid,
         (subject ->> tg_argv[1])::uuid,
         jsonb_strip_nulls(jsonb_build_object('milestoneNumber', coalesce(subject -> 'milestone_number', subject -> 'number')))
         || case
           when tg_op <> 'UPDATE' then '{}'
           else jsonb_build_object('was', (
             select jsonb_object_agg(b.key, b.value)
               from jsonb_each(before) as b
              where b.value is distinct from after -> b.key
                -- A runner's own words may be a name.
                and b.key not in ('tech_stack', 'tech_stack_key')))
         end;
  return null;
end
$$;

comment on function private.record_change() is 'Writes into the audit log what somebody changed by hand, and what was there before.';
revoke all on function private.record_change() from public, anon, authenticated, service_role;
alter function private.record_change() owner to speedcoding_keeper;

create or replace function private.demand_submission(caller jsonb, submission_id uuid) returns public.submissions
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  moderator uuid := private.enter(caller);
  judged public.submissions;
begin
  select s.*
    into judged
    from public.submissions as s
   where s.id = demand_submission.submission_id
     for no key update;
  -- Asked after the lock: a demotion that came first counts.
  perform private.demand_role('moderator');
  if judged.id is null then
    perform private.refuse(404, 'submission_not_found', 'There is no such submission.');
  end if;
  if judged.user_id = moderator then
    perform private.refuse(403, 'own_run', 'Nobody judges their own run.');
  end if;
  -- Who is no moderator any more has nothing taken.
  if judged.claimed_by <> moderator
    and private.caller_role() <> 'admin'
    and exists (
      select from public.users as u
       where u.id = judged.claimed_by
         and u.role in ('moderator', 'admin')
         and u.banned_at is null
    )
  then
    perform private.refuse(409, 'submission_claimed', 'Another moderator has taken this submission.',
      jsonb_build_object('claimedBy', judged.claimed_by));
  end if;
  return judged;
end
$$;

comment on function private.demand_submission(jsonb, uuid) is
  'The submission, locked, that the caller is going to judge; refuses who is no moderator, its runner, and who has not taken it while another has.';
revoke all on function private.demand_submission(jsonb, uuid) from public, anon, authenticated, service_role;
alter function private.demand_submission(jsonb, uuid) owner to speedcoding_writer;

create or replace function private.demand_pending(judged public.submissions) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if judged.status <> 'PENDING' then
    perform private.refuse(409, 'submission_already_reviewed', format('This submission is %s already.', judged.status),
      jsonb_build_object('submissionStatus', judged.status));
  end if;
end
$$;

comment on function private.demand_pending(public.submissions) is 'Refuses a submission that is decided on.';
revoke all on function private.demand_pending(public.submissions) from public, anon, authenticated, service_role;
alter function private.demand_pending(public.submissions) owner to speedcoding_writer;

create or replace function private.demand_revision(judged public.submissions, revision integer) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if judged.revision <> demand_revision.revision then
    perform private.refuse(409, 'stale_revision',
      format('This submission has changed: it is at revision %s now.', judged.revision),
      jsonb_build_object('revision', judged.revision));
  end if;
end
$$;

comment on function private.demand_revision(public.submissions, integer) is 'Refuses a request that saw another revision.';
revoke all on function private.demand_revision(public.submissions, integer) from public, anon, authenticated, service_role;
alter function private.demand_revision(public.submissions, integer) owner to speedcoding_writer;

create or replace function private.get_submission(caller jsonb, submission_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  found_submission jsonb;
begin
  perform private.enter(caller, anyone => true);
  select private.describe_submission(s)
    into found_submission
    from public.submissions as s
   where s.id = get_submission.submission_id;
  if not found then
    perform private.refuse(404, 'submission_not_found', 'There is no such submission, or it is not public.');
  end if;
  return found_submission;
end
$$;

comment on function private.get_submission(jsonb, uuid) is
  'One submission: the caller''s own, any for moderators, approved ones for everyone.';
revoke all on function private.get_submission(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.get_submission(jsonb, uuid) to speedcoding_api;
alter function private.get_submission(jsonb, uuid) owner to speedcoding_writer;

-- Planned for what is asked: which index serves depends on which filters there are.
create or replace function private.list_submissions(
  caller jsonb, page_size integer, mine boolean, status text, challenge text, after_time timestamptz, after_id uuid
) returns setof jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  reader uuid := private.enter(caller);
  everyones boolean := not mine and coalesce(private.caller_role(), '') in ('moderator', 'admin');
  -- A constant of its type when the statement below is planned: so that the index of this status is found.
  reviewed public.submission_status := status::public.submission_status;
  wanted uuid;
begin
  if challenge is not null then
    select c.id
      into wanted
      from public.challenges as c
     where c.slug = challenge;
    if not found then
      perform private.refuse(404, 'challenge_not_found', 'There is no such challenge: GET /challenges lists them.');
    end if;
  end if;
  return query
    select private.describe_submission(s)
      from public.submissions as s
     where (everyones or s.user_id = reader)
       and (reviewed is null or s.status = reviewed)
       and (wanted is null or s.challenge_id = wanted)
       and (after_id is null or (s.submitted_at, s.id) > (after_time, after_id))
     order by s.submitted_at, s.id
     limit page_size;
end
$$;

comment on function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) is
  'The caller''s own submissions; for moderators everybody''s, unless they ask for theirs. The oldest first, from after one on.';
revoke all on function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) to speedcoding_api;
alter function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) owner to speedcoding_writer;

create or replace function private.update_submission(
  caller jsonb, submission_id uuid, revision integer, packages text[] default null, video_url text default null
) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  handed_in public.submissions;
begin
  select s.*
    into handed_in
    from public.submissions as s
   where s.id = update_submission.submission_id
     and s.user_id = runner
     for no key update;
  if not found then
    perform private.refuse(404, 'submission_not_found', 'You have no such submission.');
  end if;
  if handed_in.status = 'APPROVED' then
    perform private.refuse(409, 'submission_approved', 'An approved submission cannot be edited.');
  end if;
  perform private.demand_revision(handed_in, update_submission.revision);
  update public.submissions as s
     set packages = coalesce(update_submission.packages, s.packages),
         video_url = coalesce(update_submission.video_url, s.video_url),
         status = 'PENDING'
   where s.id = handed_in.id
  returning s.* into handed_in;
  if not found then
    raise exception 'submission % could not be edited', submission_id;
  end if;
  return private.describe_submission(handed_in);
end
$$;

comment on function private.update_submission(jsonb, uuid, integer, text[], text) is
  'Edits the caller''s own submission until it is approved; one that was rejected is handed in again.';
revoke all on function private.update_submission(jsonb, uuid, integer, text[], text) from
  public, anon, authenticated, service_role;
grant execute on function private.update_submission(jsonb, uuid, integer, text[], text) to speedcoding_api;
alter function private.update_submission(jsonb, uuid, integer, text[], text) owner to speedcoding_writer;

create or replace function private.claim_submission(caller jsonb, submission_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  judged public.submissions := private.demand_submission(caller, submission_id);
begin
  perform private.demand_pending(judged);
  update public.submissions as s
     set claimed_by = private.caller_id()
   where s.id = judged.id
  returning s.* into judged;
  return private.describe_submission(judged);
end
$$;

comment on function private.claim_submission(jsonb, uuid) is 'A moderator takes a pending submission: others leave it alone.';
revoke all on function private.claim_submission(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.claim_submission(jsonb, uuid) to speedcoding_api;
alter function private.claim_submission(jsonb, uuid) owner to speedcoding_writer;

create or replace function private.release_submission(caller jsonb, submission_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  judged public.submissions := private.demand_submission(caller, submission_id);
begin
  if judged.claimed_by is not null then
    update public.submissions as s
       set claimed_by = null
     where s.id = judged.id
    returning s.* into judged;
  end if;
  return private.describe_submission(judged);
end
$$;

comment on function private.release_submission(jsonb, uuid) is 'A moderator gives a submission back that they have taken.';
revoke all on function private.release_submission(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.release_submission(jsonb, uuid) to speedcoding_api;
alter function private.release_submission(jsonb, uuid) owner to speedcoding_writer;

create or replace function private.review_submission(
  caller jsonb, submission_id uuid, decision text, revision integer, reason text default null
) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  judged public.submissions := private.demand_submission(caller, submission_id);
begin
  perform private.demand_pending(judged);
  perform private.demand_revision(judged, review_submission.revision);
  if decision = 'REJECTED' and coalesce(reason, '') !~ '\S' then
    perform private.refuse(400, 'invalid_request', 'reason is required by a rejection.',
      jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
        'field', 'reason', 'code', 'required', 'message', 'is required by a rejection'))));
  end if;
  update public.submissions as s
     set status = decision::public.submission_status,
         review_reason = reason,
         reviewed_by = private.caller_id()
   where s.id = judged.id
  returning s.* into judged;
  return private.describe_submission(judged);
end
$$;

comment on function private.review_submission(jsonb, uuid, text, integer, text) is
  'A moderator approves or rejects the revision of a pending submission that they saw.';
revoke all on function private.review_submission(jsonb, uuid, text, integer, text) from
  public, anon, authenticated, service_role;
grant execute on function private.review_submission(jsonb, uuid, text, integer, text) to speedcoding_api;
alter function private.review_submission(jsonb, uuid, text, integer, text) owner to speedcoding_writer;

create or replace function private.reopen_submission(caller jsonb, submission_id uuid, reason text) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  judged public.submissions := private.demand_submission(caller, submission_id);
begin
  if judged.status = 'PENDING' then
    perform private.refuse(409, 'submission_pending', 'This submission is PENDING: there is nothing to reopen.');
  end if;
  update public.submissions as s
     set status = 'PENDING', review_reason = reason
   where s.id = judged.id
  returning s.* into judged;
  return private.describe_submission(judged);
end
$$;

comment on function private.reopen_submission(jsonb, uuid, text) is 'A moderator sets a decided submission back to PENDING: off the boards.';
revoke all on function private.reopen_submission(jsonb, uuid, text) from public, anon, authenticated, service_role;
grant execute on function private.reopen_submission(jsonb, uuid, text) to speedcoding_api;
alter function private.reopen_submission(jsonb, uuid, text) owner to speedcoding_writer;

revoke create on schema private from speedcoding_writer, speedcoding_keeper;

create trigger submissions_complete before insert on public.submissions
  for each row execute function private.complete_submission();
-- In the order of their names: after submissions_guard.
create trigger submissions_record before update on public.submissions
  for each row execute function private.record_submission();
create trigger submissions_record_others after insert or delete on public.submissions
  for each row execute function private.record_submission();
create trigger sessions_record after insert or update or delete on public.sessions
  for each row when (current_user not in ('speedcoding_writer', 'speedcoding_keeper') and pg_trigger_depth() = 0)
  execute function private.record_change('session', 'id');
create trigger milestones_record after insert or update or delete on public.milestones
  for each row when (current_user not in ('speedcoding_writer', 'speedcoding_keeper') and pg_trigger_depth() = 0)
  execute function private.record_change('milestone', 'session_id');
