create or replace function private.guard_challenge() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  used boolean;
begin
  -- This waits for runs that are being started; later starts wait for this change.
  perform from public.challenges where id = old.id for update;
  used := exists (select from public.sessions where challenge_id = old.id);
  if tg_op = 'DELETE' then
    if used then
      perform private.refuse(409, 'challenge_used', 'This challenge has been run, so it cannot be deleted: switch active off to withdraw it.');
    end if;
    return old;
  end if;
  perform private.demand_editable(
    old.id,
    concat_ws(' ',
      case when new.id <> old.id then 'A challenge keeps its id.' end,
      case when new.slug <> old.slug and used
        then 'This challenge has been run, so it keeps its slug: links contain it.' end),
    (new.required_milestones, new.ordered) <> (old.required_milestones, old.ordered));
  return new;
end
$$;

comment on function private.guard_challenge() is 'Refuses changes to a challenge that its runs do not allow.';
revoke all on function private.guard_challenge() from public, anon, authenticated, service_role;
alter function private.guard_challenge() owner to speedcoding_keeper;
