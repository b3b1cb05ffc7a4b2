create or replace function private.list_records(
  caller jsonb, slug text, tech_stack text, known_versions bigint[], page_size integer, before_ms bigint default null
) returns setof private.record_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  board record;
begin
  perform private.enter(caller, anyone => true);
  board := private.find_board(slug, tech_stack);
  if board.version <> all (known_versions) then
    return query
      select board.version, u.id, u.username::text, s.session_id, s.tech_stack, step.total_ms,
             s.total_time, step.beaten_ms - step.total_ms, s.video_url, step.end_time
        from (
          select r.*, lead(r.total_ms) over (order by r.total_ms) as beaten_ms
            from private.records as r
           where r.challenge_id = board.challenge_id
             and r.tech_stack_key = board.tech_stack_key
        ) as step
       cross join lateral (select * from public.submissions as run where run.id = step.submission_id limit 1) as s
       cross join lateral (select * from public.users as runner where runner.id = s.user_id limit 1) as u
       where before_ms is null or step.total_ms > before_ms
       order by step.total_ms
       limit page_size;
    if found then
      return;
    end if;
  end if;
  return next row(board.version, null, null, null, null, null, null, null, null, null)::private.record_result;
end
$$;

comment on function private.list_records(jsonb, text, text, bigint[], integer, bigint) is
  'The history of a board''s record, the current one first, before a given one. Only the version if the caller already knows it.';
revoke all on function private.list_records(jsonb, text, text, bigint[], integer, bigint) from
  public, anon, authenticated, service_role;
grant execute on function private.list_records(jsonb, text, text, bigint[], integer, bigint) to speedcoding_api;
alter function private.list_records(jsonb, text, text, bigint[], integer, bigint) owner to speedcoding_writer;
