create or replace function private.get_milestone_input(
  caller jsonb, session_id uuid, milestone_number integer, out refusal jsonb, out input text
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  session record;
begin
  select s.id, s.challenge_id, s.status, s.deadline, c.ordered
    into session
    from public.sessions as s
    join public.challenges as c on c.id = s.challenge_id
   where s.id = get_milestone_input.session_id
     and s.user_id = runner;
  if not found then
    perform private.refuse(404, 'session_not_found', 'You have no such session.');
  end if;
  refusal := private.find_over(session.id, session.status, session.deadline, private.clock());
  if refusal is not null then
    return;
  end if;
  -- A runner sees no input ahead of its turn, or they could read it in a run that they abandon.
  if session.ordered then
    perform private.demand_turn(session.id, session.challenge_id, get_milestone_input.milestone_number);
  end if;
  input := private.read_input(session.id, get_milestone_input.milestone_number);
end
$$;

comment on function private.get_milestone_input(jsonb, uuid, integer) is
  'The caller''s own input for a milestone that is next, or passed, in a running session.';
revoke all on function private.get_milestone_input(jsonb, uuid, integer) from public, anon, authenticated, service_role;
grant execute on function private.get_milestone_input(jsonb, uuid, integer) to speedcoding_api;
alter function private.get_milestone_input(jsonb, uuid, integer) owner to speedcoding_writer;
