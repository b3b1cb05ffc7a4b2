-- Takes no lock, so a start never waits for an administrator. A start can thus read synonyms that are changing at this
-- moment, and commit after the change has gone through the sessions (private.follow_synonyms). Hence the key is computed
-- anew when the session ends and when it is published. Only a change that stays open from the start to the approval would
-- be missed. One that began later meets each of these updates in the lock on the session's row, and the later of the two
-- sees what the other did.
create or replace function private.key_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  new.tech_stack_key := private.tech_stack_key(new.tech_stack);
  return new;
end
$$;

comment on function private.key_session() is 'Sets the key of a session''s tech stack, and replaces any other value.';
revoke all on function private.key_session() from public, anon, authenticated, service_role;
alter function private.key_session() owner to speedcoding_keeper;
