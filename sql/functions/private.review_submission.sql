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
