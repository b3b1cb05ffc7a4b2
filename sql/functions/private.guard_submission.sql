create or replace function private.guard_submission() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  moved boolean := new.status <> old.status;
  edited boolean := (new.packages, new.video_url) is distinct from (old.packages, old.video_url);
  by_runner boolean := private.caller_id() = new.user_id;
begin
  if (new.id, new.session_id, new.user_id, new.challenge_id)
    is distinct from (old.id, old.session_id, old.user_id, old.challenge_id)
  then
    perform private.refuse(409, 'submission_fixed',
      'A submission keeps its id, its session, its runner and its challenge.');
  end if;
  if (new.tech_stack, new.tech_stack_key, new.total_ms, new.end_time)
      is distinct from (old.tech_stack, old.tech_stack_key, old.total_ms, old.end_time)
    and not exists (
      select from public.sessions as s
       where s.id = new.session_id
         and (s.tech_stack, s.tech_stack_key, s.total_ms, s.end_time)
           is not distinct from (new.tech_stack, new.tech_stack_key, new.total_ms, new.end_time)
    )
  then
    perform private.refuse(409, 'submission_fixed',
      'A submission takes its tech stack and its times from its session: correct them there.');
  end if;
  if old.status = 'APPROVED' and edited then
    perform private.refuse(409, 'submission_approved',
      'An approved submission cannot be edited; set it back to PENDING first.');
  end if;
  if moved and 'PENDING' not in (old.status, new.status) then
    perform private.refuse(409, 'submission_already_reviewed', format(
      'A submission that is %s cannot become %s at once; set it back to PENDING first.', old.status, new.status));
  end if;
  if new.user_id in (new.claimed_by, new.reviewed_by) or moved and by_runner and (old.status, new.status) <> ('REJECTED', 'PENDING') then
    perform private.refuse(403, 'own_run', 'Nobody judges their own run.');
  end if;
  if new.status = 'APPROVED' and new.video_url is null then
    perform private.refuse(409, 'video_required', 'A run without a recording cannot be approved: video_url is empty.');
  end if;
  if new.status = 'REJECTED' and coalesce(new.review_reason, '') !~ '\S' then
    perform private.refuse(409, 'reason_required', 'A rejection needs a reason that its runner can read: fill in review_reason.');
  end if;

  new.revision := old.revision + (edited or moved and new.status = 'PENDING')::integer;
  if not moved then
    new.reviewed_at := old.reviewed_at;
    if new.status <> 'PENDING' and new.claimed_by is not null then
      perform private.refuse(409, 'submission_already_reviewed', format('This submission is %s: there is nothing to claim.', new.status));
    end if;
  elsif new.status = 'PENDING' then
    new.claimed_by := null;
    new.reviewed_by := null;
    new.reviewed_at := null;
    if by_runner then
      new.submitted_at := private.clock();
    end if;
  else
    new.claimed_by := null;
    new.reviewed_by := coalesce(new.reviewed_by, private.caller_id());
    new.reviewed_at := private.clock();
  end if;
  if new.claimed_by is null then
    new.claimed_at := null;
  elsif new.claimed_by is distinct from old.claimed_by then
    new.claimed_at := private.clock();
  end if;
  return new;
end
$$;

comment on function private.guard_submission() is 'Refuses changes to a submission that neither runners nor moderators may make. Sets its dates and its revision.';
revoke all on function private.guard_submission() from public, anon, authenticated, service_role;
alter function private.guard_submission() owner to speedcoding_keeper;
