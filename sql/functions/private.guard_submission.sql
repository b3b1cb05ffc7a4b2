create or replace function private.guard_submission() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if (new.id, new.session_id, new.user_id, new.challenge_id)
    is distinct from (old.id, old.session_id, old.user_id, old.challenge_id)
  then
    perform private.refuse(409, 'submission_fixed',
      'A submission keeps its id, its session, its runner and its challenge.');
  end if;
  if old.status = 'APPROVED'
    and (new.packages, new.video_url) is distinct from (old.packages, old.video_url)
  then
    perform private.refuse(409, 'submission_approved',
      'An approved submission cannot be edited; set it back to PENDING first.');
  end if;
  if new.status <> old.status then
    if old.status <> 'PENDING' and new.status <> 'PENDING' then
      perform private.refuse(409, 'submission_already_reviewed', format(
        'A submission that is %s cannot become %s at once; set it back to PENDING first.',
        old.status, new.status));
    end if;
    new.reviewed_at := case when new.status <> 'PENDING' then private.clock() end;
  end if;
  return new;
end
$$;

comment on function private.guard_submission() is 'Refuses what a review may not do, and dates its decisions.';
revoke all on function private.guard_submission() from public, anon, authenticated, service_role;
alter function private.guard_submission() owner to speedcoding_keeper;
