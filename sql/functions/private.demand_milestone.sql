create or replace function private.demand_milestone(challenge uuid, milestone integer) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  verification text;
begin
  select d.verification
    into verification
    from public.challenge_milestones as d
   where d.challenge_id = challenge
     and d.number = milestone;
  if not found then
    perform private.refuse(400, 'unknown_milestone', format('This challenge has no milestone %s.', milestone),
      jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
        'field', 'milestoneNumber', 'code', 'unknown_milestone', 'message', 'is not a milestone of this challenge'))));
  end if;
  return verification;
end
$$;

comment on function private.demand_milestone(uuid, integer) is
  'How a milestone of a challenge is verified. Refuses a number that the challenge does not have.';
revoke all on function private.demand_milestone(uuid, integer) from public, anon, authenticated, service_role;
alter function private.demand_milestone(uuid, integer) owner to speedcoding_writer;
