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

comment on function private.reopen_submission(jsonb, uuid, text) is 'A moderator sets a decided submission back to PENDING. Its run leaves the boards.';
revoke all on function private.reopen_submission(jsonb, uuid, text) from public, anon, authenticated, service_role;
grant execute on function private.reopen_submission(jsonb, uuid, text) to speedcoding_api;
alter function private.reopen_submission(jsonb, uuid, text) owner to speedcoding_writer;
