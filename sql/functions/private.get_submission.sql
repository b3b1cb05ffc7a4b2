create or replace function private.get_submission(caller jsonb, submission_id uuid) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  found_submission jsonb;
begin
  perform private.enter(caller, anyone => true);
  select private.describe_submission(s)
    into found_submission
    from public.submissions as s
   where s.id = get_submission.submission_id;
  if not found then
    perform private.refuse(404, 'submission_not_found', 'There is no such submission, or it is not public.');
  end if;
  return found_submission;
end
$$;

comment on function private.get_submission(jsonb, uuid) is
  'One submission: the caller''s own, any for moderators, approved ones for everyone.';
revoke all on function private.get_submission(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.get_submission(jsonb, uuid) to speedcoding_api;
alter function private.get_submission(jsonb, uuid) owner to speedcoding_writer;
