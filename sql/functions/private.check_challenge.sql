-- Runs at the end of the transaction, so that an author may build or renumber a challenge step by step.
create or replace function private.check_challenge() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  subject jsonb := case tg_op when 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
  challenge record;
  placed integer;
  missing integer;
  bare text;
  reasons text[] := array[]::text[];
begin
  select id, required_milestones, active
    into challenge
    from public.challenges
   where id = (subject ->> tg_argv[0])::uuid;
  select count(*)
    into placed
    from public.challenge_milestones as m
   where m.challenge_id = challenge.id;
  select min(expected.number)
    into missing
    from generate_series(1, placed) as expected (number)
   where not exists (
     select from public.challenge_milestones as m
      where m.challenge_id = challenge.id
        and m.number = expected.number
   );
  if missing is not null then
    perform private.refuse(409, 'challenge_incomplete', format(
      'The milestones of a challenge are numbered 1, 2, 3 and so on, without a gap: number %s is missing.', missing));
  end if;
  -- Milestones are added row by row: the challenge is not complete after each of them.
  if not challenge.active or (tg_op = 'INSERT' and tg_table_name <> 'challenges') then
    return null;
  end if;
  if challenge.required_milestones > placed then
    reasons := reasons || format('This challenge has %s of the %s milestones that it requires.',
      placed, challenge.required_milestones);
  end if;
  select string_agg(m.number::text, ', ' order by m.number)
    into bare
    from public.challenge_milestones as m
   where m.challenge_id = challenge.id
     and private.takes_input(m.verification)
     and not exists (
       select from private.answer_variants as v
        where v.challenge_id = m.challenge_id
          and v.milestone_number = m.number
          and not v.retired
     );
  if bare is not null then
    reasons := reasons || format(
      'A milestone that is passed by an answer needs an input in private.answer_variants: there is none for milestone %s.', bare);
  end if;
  if reasons <> '{}' then
    perform private.refuse(409, 'challenge_incomplete',
      array_to_string(reasons, ' ') || ' Switch active off until the challenge is complete.');
  end if;
  return null;
end
$$;

comment on function private.check_challenge() is
  'Refuses milestones whose numbers have a gap, and an active challenge that is impossible to complete.';
revoke all on function private.check_challenge() from public, anon, authenticated, service_role;
alter function private.check_challenge() owner to speedcoding_keeper;
