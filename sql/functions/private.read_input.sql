create or replace function private.read_input(session uuid, milestone integer) returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  takes boolean;
  given text;
begin
  select private.takes_input(d.verification)
    into takes
    from public.sessions as s
    join public.challenge_milestones as d on d.challenge_id = s.challenge_id
   where s.id = session
     and d.number = milestone;
  if takes is not true then
    perform private.refuse(404, 'input_not_found', 'This milestone has no input.');
  end if;
  for turn in 1..2 loop
    select v.input
      into given
      from private.session_inputs as g
      join private.answer_variants as v on v.id = g.variant_id
     where g.session_id = session
       and g.milestone_number = milestone
       and g.user_id = private.caller_id();
    exit when found;
    insert into private.session_inputs (session_id, milestone_number, user_id, variant_id)
    select s.id, milestone, s.user_id, v.id
      from public.sessions as s
      join private.answer_variants as v on v.challenge_id = s.challenge_id and v.milestone_number = milestone
     where s.id = session
       and s.user_id = private.caller_id()
       and not v.retired
     order by random()
     limit 1
        on conflict do nothing;
  end loop;
  if given is null then
    perform private.refuse(404, 'input_not_found', 'This milestone has no input.');
  end if;
  return given;
end
$$;

comment on function private.read_input(uuid, integer) is
  'The input of the caller''s session for a milestone. Chooses one if the session has none yet.';
revoke all on function private.read_input(uuid, integer) from public, anon, authenticated, service_role;
grant execute on function private.read_input(uuid, integer) to speedcoding_writer;
alter function private.read_input(uuid, integer) owner to speedcoding_keeper;
