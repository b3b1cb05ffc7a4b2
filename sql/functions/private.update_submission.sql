create or replace function private.update_submission(
  caller jsonb, submission_id uuid, revision integer, packages text[] default null, video_url text default null,
  clear_video_url boolean default false
) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  handed_in public.submissions;
  video_fault jsonb;
begin
  select s.*
    into handed_in
    from public.submissions as s
   where s.id = update_submission.submission_id
     and s.user_id = runner
     for no key update;
  if not found then
    perform private.refuse(404, 'submission_not_found', 'You have no such submission.');
  end if;
  if handed_in.status = 'APPROVED' then
    perform private.refuse(409, 'submission_approved', 'An approved submission cannot be edited.');
  end if;
  perform private.demand_revision(handed_in, update_submission.revision);
  video_fault := private.video_fault(update_submission.video_url, runner, handed_in.session_id);
  if video_fault is not null then
    perform private.refuse(400, 'invalid_request', format('videoUrl %s.', video_fault ->> 'message'),
      jsonb_build_object('errors', jsonb_build_array(video_fault)));
  end if;
  update public.submissions as s
     set packages = coalesce(update_submission.packages, s.packages),
         video_url = case
           when not clear_video_url then coalesce(update_submission.video_url, s.video_url)
         end,
         status = 'PENDING'
   where s.id = handed_in.id
  returning s.* into handed_in;
  if not found then
    raise exception 'submission % could not be edited', submission_id;
  end if;
  return private.describe_submission(handed_in);
end
$$;

comment on function private.update_submission(jsonb, uuid, integer, text[], text, boolean) is
  'Changes the caller''s own submission, unless it is approved. A rejected one is handed in again.';
revoke all on function private.update_submission(jsonb, uuid, integer, text[], text, boolean) from
  public, anon, authenticated, service_role;
grant execute on function private.update_submission(jsonb, uuid, integer, text[], text, boolean) to speedcoding_api;
alter function private.update_submission(jsonb, uuid, integer, text[], text, boolean) owner to speedcoding_writer;
