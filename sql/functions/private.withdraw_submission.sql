-- The session stays completed in its runner's list, and cannot be handed in again. The moderators' notes are deleted with
-- the submission. The audit log keeps what happened. Boards do not change, because approved ones cannot be withdrawn.
create or replace function private.withdraw_submission(caller jsonb, submission_id uuid) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  handed_in record;
begin
  select s.id, s.status
    into handed_in
    from public.submissions as s
   where s.id = withdraw_submission.submission_id
     and s.user_id = runner
     for update;
  if not found then
    -- A repeated call answers as the first time.
    if not exists (
      select from private.audit_log as log
       where log.action = 'submission.deleted'
         and log.subject_id = withdraw_submission.submission_id
         and log.user_id = runner
    ) then
      perform private.refuse(404, 'submission_not_found', 'You have no such submission.');
    end if;
    return;
  end if;
  if handed_in.status = 'APPROVED' then
    perform private.refuse(409, 'submission_approved', 'An approved submission cannot be withdrawn: ask a moderator to reopen it.');
  end if;
  delete from public.submissions as s where s.id = handed_in.id;
end
$$;

comment on function private.withdraw_submission(jsonb, uuid) is
  'Takes back the caller''s own submission, unless it is approved.';
revoke all on function private.withdraw_submission(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.withdraw_submission(jsonb, uuid) to speedcoding_api;
alter function private.withdraw_submission(jsonb, uuid) owner to speedcoding_writer;
