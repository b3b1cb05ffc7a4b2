-- Runs before the update and after the guard. A row that everyone may read must not have the moderator's notes, and only
-- a trigger before the update can take them out.
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
      when new.claimed_by is distinct from old.claimed_by or new.claimed_at <> old.claimed_at then 'claimed'
      -- Generated columns have no value yet, and the log itself says when a submission was claimed.
      when to_jsonb(new) - '{total_time,video_key,claimed_at}'::text[]
        is distinct from to_jsonb(old) - '{total_time,video_key,claimed_at}'::text[] then 'corrected'
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
  'Writes each change of a submission into the audit log, and each decision into private.reviews. Takes the notes out of a row that is approved.';
revoke all on function private.record_submission() from public, anon, authenticated, service_role;
alter function private.record_submission() owner to speedcoding_keeper;
