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
  -- Checked after the lock, so that an earlier demotion counts.
  perform private.demand_role('moderator');
  if judged.id is null then
    perform private.refuse(404, 'submission_not_found', 'There is no such submission.');
  end if;
  if judged.user_id = moderator then
    perform private.refuse(403, 'own_run', 'Nobody judges their own run.');
  end if;
  -- A claim counts while its time lasts and its moderator is still a moderator.
  if judged.claimed_by <> moderator
    and private.claim_expiry(judged, private.clock()) is not null
    and private.caller_role() <> 'admin'
    and exists (
      select from public.users as u
       where u.id = judged.claimed_by
         and u.role in ('moderator', 'admin')
         and not exists (select from public.bans as b where b.user_id = u.id)
    )
  then
    perform private.refuse(409, 'submission_claimed', 'Another moderator has taken this submission.',
      jsonb_build_object('claimedBy', judged.claimed_by,
        'claimExpiresAt', private.moment(private.claim_expiry(judged, private.clock()))));
  end if;
  return judged;
end
$$;

comment on function private.demand_submission(jsonb, uuid) is
  'Locks and returns the submission that the caller is going to judge. Refuses a caller who is no moderator, who is its runner, or who did not claim it while another moderator has.';
revoke all on function private.demand_submission(jsonb, uuid) from public, anon, authenticated, service_role;
alter function private.demand_submission(jsonb, uuid) owner to speedcoding_writer;
