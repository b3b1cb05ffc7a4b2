-- A challenge with approved runs keeps its boards when it is no longer active. A challenge that was never active shows
-- none.
create or replace function private.find_board(
  slug text, tech_stack text,
  out challenge_id uuid, out tech_stack_key text, out version bigint, out entries bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  is_ranked boolean;
begin
  tech_stack_key := coalesce(private.tech_stack_key(tech_stack), '');
  if tech_stack_key = '' and tech_stack is not null then
    perform private.refuse(400, 'invalid_request', 'techStack must be visible text.',
      jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
        'field', 'techStack', 'code', 'invalid', 'message', 'must be visible text'))));
  end if;
  select c.id, c.ranked, coalesce(b.version, 0), coalesce(b.entries, 0)
    into find_board.challenge_id, is_ranked, find_board.version, find_board.entries
    from public.challenges as c
    left join private.boards as b on b.challenge_id = c.id and b.tech_stack_key = find_board.tech_stack_key
    left join private.boards as of_all on of_all.challenge_id = c.id and of_all.tech_stack_key = ''
   where c.slug = find_board.slug
     and (c.active or of_all.challenge_id is not null);
  if not found then
    perform private.refuse(404, 'challenge_not_found', 'There is no such challenge: GET /challenges lists them.');
  end if;
  if not is_ranked then
    perform private.refuse(404, 'challenge_not_ranked', 'The runs of this challenge are not ranked: it has no boards.');
  end if;
end
$$;

comment on function private.find_board(text, text) is
  'The board of a challenge, overall or for a tech stack. Refuses a challenge that has no boards.';
revoke all on function private.find_board(text, text) from public, anon, authenticated, service_role;
alter function private.find_board(text, text) owner to speedcoding_writer;
