-- The statement is planned at each call, because the best index depends on the filters.
create or replace function private.list_submissions(
  caller jsonb, page_size integer, mine boolean, status text, challenge text, after_time timestamptz, after_id uuid
) returns setof jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  reader uuid := private.enter(caller);
  everyones boolean := not mine and coalesce(private.caller_role(), '') in ('moderator', 'admin');
  -- The planner sees this as a constant, and so finds the index of this status.
  reviewed public.submission_status := status::public.submission_status;
  wanted uuid;
begin
  if challenge is not null then
    select c.id
      into wanted
      from public.challenges as c
     where c.slug = challenge;
    if not found then
      perform private.refuse(404, 'challenge_not_found', 'There is no such challenge: GET /challenges lists them.');
    end if;
  end if;
  return query
    select private.describe_submission(s)
      from public.submissions as s
     where (everyones or s.user_id = reader)
       and (reviewed is null or s.status = reviewed)
       and (wanted is null or s.challenge_id = wanted)
       and (after_id is null or (s.submitted_at, s.id) > (after_time, after_id))
     order by s.submitted_at, s.id
     limit page_size;
end
$$;

comment on function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) is
  'The caller''s own submissions. Moderators get everybody''s, unless they ask for their own. The oldest first, from those after a given one on.';
revoke all on function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) to speedcoding_api;
alter function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) owner to speedcoding_writer;
