create or replace function private.get_standing(caller jsonb, slug text, tech_stack text default null)
returns private.board_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  runner uuid := private.enter(caller);
  board record;
  standing private.board_result;
begin
  board := private.find_board(slug, tech_stack);
  select board.version, board.entries,
         private.rank_of(board.challenge_id, board.tech_stack_key, p.total_ms),
         u.id, u.username::text, s.session_id, s.tech_stack, p.total_ms, s.total_time,
         s.packages, s.video_url, s.submitted_at, p.end_time, p.submission_id
    into standing
    from public.personal_bests as p
    join public.submissions as s on s.id = p.submission_id
    join public.users as u on u.id = p.user_id
   where p.challenge_id = board.challenge_id
     and p.tech_stack_key = board.tech_stack_key
     and p.user_id = runner;
  standing.version := board.version;
  standing.entries := board.entries;
  return standing;
end
$$;

comment on function private.get_standing(jsonb, text, text) is
  'The caller''s own entry on a board, and the number of entries. Without an entry, only the number.';
revoke all on function private.get_standing(jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function private.get_standing(jsonb, text, text) to speedcoding_api;
alter function private.get_standing(jsonb, text, text) owner to speedcoding_writer;
