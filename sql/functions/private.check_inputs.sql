-- Runs once for each statement, because one may retire thousands of inputs. New inputs are added before old ones go.
create or replace function private.check_inputs() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  bare integer;
begin
  select min(m.number)
    into bare
    from (select distinct o.challenge_id, o.milestone_number from old_rows as o) as touched
    join public.challenges as c on c.id = touched.challenge_id
    join public.challenge_milestones as m on m.challenge_id = c.id and m.number = touched.milestone_number
   where c.active
     and private.takes_input(m.verification)
     and not exists (
       select from private.answer_variants as v
        where v.challenge_id = m.challenge_id
          and v.milestone_number = m.number
          and not v.retired
     );
  if bare is not null then
    perform private.refuse(409, 'challenge_incomplete', format(
      'Milestone %s is passed by an answer and would have no input left: add another input first, or switch active off.', bare));
  end if;
  return null;
end
$$;

comment on function private.check_inputs() is 'Refuses to take the last input from a milestone of an active challenge.';
revoke all on function private.check_inputs() from public, anon, authenticated, service_role;
alter function private.check_inputs() owner to speedcoding_keeper;
