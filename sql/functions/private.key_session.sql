-- A change of synonyms waits for keys that are being made, and a key waits for synonyms that are being changed. So no
-- session keeps an old key (private.follow_synonyms).
create or replace function private.key_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_advisory_xact_lock_shared(hashtextextended('tech_stack_synonyms', 0));
  new.tech_stack_key := private.tech_stack_key(new.tech_stack);
  return new;
end
$$;

comment on function private.key_session() is 'Sets the key of a session''s tech stack, and replaces any other value.';
revoke all on function private.key_session() from public, anon, authenticated, service_role;
alter function private.key_session() owner to speedcoding_keeper;
