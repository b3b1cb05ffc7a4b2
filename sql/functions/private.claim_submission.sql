create or replace function private.claim_submission(caller jsonb, submission_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  judged public.submissions := private.demand_submission(caller, submission_id);
begin
  perform private.demand_pending(judged);
  -- A repeated claim answers as the first time while the claim lasts.
  if judged.claimed_by is distinct from private.caller_id() or private.claim_expiry(judged, private.clock()) is null then
    update public.submissions as s
       set claimed_by = private.caller_id(), claimed_at = private.clock()
     where s.id = judged.id
    returning s.* into judged;
  end if;
  return private.describe_submission(judged);
end
$$;

comment on function private.claim_submission(jsonb, uuid) is 'A moderator claims a pending submission. For 30 minutes no other moderator can judge it.';
revoke all on function private.claim_submission(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.claim_submission(jsonb, uuid) to speedcoding_api;
alter function private.claim_submission(jsonb, uuid) owner to speedcoding_writer;
