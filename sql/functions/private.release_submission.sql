create or replace function private.release_submission(caller jsonb, submission_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  judged public.submissions := private.demand_submission(caller, submission_id);
begin
  if judged.claimed_by is not null then
    update public.submissions as s
       set claimed_by = null
     where s.id = judged.id
    returning s.* into judged;
  end if;
  return private.describe_submission(judged);
end
$$;

comment on function private.release_submission(jsonb, uuid) is 'A moderator gives back a submission that they claimed.';
revoke all on function private.release_submission(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.release_submission(jsonb, uuid) to speedcoding_api;
alter function private.release_submission(jsonb, uuid) owner to speedcoding_writer;
