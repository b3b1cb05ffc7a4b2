create or replace function private.guard_challenge_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  challenge uuid := case tg_op when 'INSERT' then new.challenge_id else old.challenge_id end;
begin
  -- Refuses a kind of verification that the rules do not know.
  if tg_op <> 'DELETE' then
    perform private.takes_input(new.verification);
  end if;
  if tg_op = 'UPDATE' and (new.challenge_id, new.number, new.verification) = (old.challenge_id, old.number, old.verification) then
    return null;
  end if;
  -- This waits for runs that are being started. Other changes to these milestones wait, so that the numbers have no gap.
  perform from public.challenges where id = challenge for update;
  perform private.demand_editable(
    challenge,
    concat_ws(' ',
      case when new.challenge_id <> old.challenge_id then 'A milestone keeps its challenge.' end,
      case when (tg_op = 'DELETE' or new.number <> old.number)
          and exists (select from public.sessions where challenge_id = challenge)
        then 'This challenge has been run, so its milestones keep their numbers and cannot be deleted.' end),
    tg_op = 'INSERT' or new.verification <> old.verification);
  return null;
end
$$;

comment on function private.guard_challenge_milestone() is
  'Refuses changes to a challenge''s milestones that its runs do not allow.';
revoke all on function private.guard_challenge_milestone() from public, anon, authenticated, service_role;
alter function private.guard_challenge_milestone() owner to speedcoding_keeper;
