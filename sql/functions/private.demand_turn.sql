create or replace function private.demand_turn(session uuid, challenge uuid, milestone integer) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  next_number integer;
begin
  select min(d.number)
    into next_number
    from public.challenge_milestones as d
   where d.challenge_id = challenge
     and not exists (
       select from public.milestones as m
        where m.session_id = session
          and m.milestone_number = d.number
          and m.passed
     );
  if milestone > next_number then
    perform private.refuse(409, 'milestone_out_of_order',
      format('The milestones of this challenge come in order: number %s is next.', next_number),
      jsonb_build_object('nextMilestone', next_number));
  end if;
end
$$;

comment on function private.demand_turn(uuid, uuid, integer) is
  'Refuses a milestone before its turn. Called for challenges whose milestones have an order.';
revoke all on function private.demand_turn(uuid, uuid, integer) from public, anon, authenticated, service_role;
alter function private.demand_turn(uuid, uuid, integer) owner to speedcoding_writer;
