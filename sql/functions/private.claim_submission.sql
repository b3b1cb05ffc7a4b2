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
