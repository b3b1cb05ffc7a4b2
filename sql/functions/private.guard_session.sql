create or replace function private.guard_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if (new.id, new.user_id, new.challenge_id) is distinct from (old.id, old.user_id, old.challenge_id) then
    perform private.refuse(409, 'session_fixed', 'A session keeps its id, its runner and its challenge.');
  end if;
  if old.status <> 'running' and new.status = 'running' then
    perform private.refuse(409, 'session_already_ended', 'A session that is over cannot run again.');
  end if;
  return new;
end
$$;

comment on function private.guard_session() is 'Refuses changes to a session that history does not allow.';
revoke all on function private.guard_session() from public, anon, authenticated, service_role;
alter function private.guard_session() owner to speedcoding_keeper;
