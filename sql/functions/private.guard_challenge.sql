create or replace function private.guard_challenge() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Whoever is starting a run is waited for, whoever starts one later waits.
  perform from public.challenges where id = old.id for update;
  if tg_op = 'DELETE' then
    if exists (select from public.sessions where challenge_id = old.id) then
      perform private.refuse(409, 'challenge_used', 'This challenge has been run, so it stays: switch active off to withdraw it.');
    end if;
    return old;
  end if;
  if new.id <> old.id then
    perform private.refuse(409, 'challenge_used', 'A challenge keeps its id.');
  end if;
  if new.slug <> old.slug and exists (select from public.sessions where challenge_id = old.id) then
    perform private.refuse(409, 'challenge_used', 'This challenge has been run, so it keeps its slug: links lead to it by that.');
  end if;
  if (new.required_milestones, new.ordered) <> (old.required_milestones, old.ordered) then
    perform private.demand_no_runs(old.id);
  end if;
  return new;
end
$$;

comment on function private.guard_challenge() is 'Refuses changes to a challenge that its runs do not allow.';
revoke all on function private.guard_challenge() from public, anon, authenticated, service_role;
alter function private.guard_challenge() owner to speedcoding_keeper;
