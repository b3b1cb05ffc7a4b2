create or replace function private.claim_submission(caller jsonb, submission_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  judged public.submissions := private.demand_submission(caller, submission_id);
begin
  perform private.demand_pending(judged);
  -- Again, while it lasts: as the first time.
  if judged.claimed_by is distinct from private.caller_id() or private.claim_expiry(judged, private.clock()) is null then
    update public.submissions as s
       set claimed_by = private.caller_id(), claimed_at = private.clock()
     where s.id = judged.id
    returning s.* into judged;
  end if;
  return private.describe_submission(judged);
end
$$;

comment on function private.claim_submission(jsonb, uuid) is 'A moderator takes a pending submission: for 30 minutes others leave it alone.';
revoke all on function private.claim_submission(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.claim_submission(jsonb, uuid) to speedcoding_api;
alter function private.claim_submission(jsonb, uuid) owner to speedcoding_writer;
