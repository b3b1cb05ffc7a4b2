-- Once for each statement, before any row is locked, it puts changes of synonyms one after another.
create or replace function private.guard_synonym() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_level = 'STATEMENT' then
    perform pg_advisory_xact_lock(hashtextextended('tech_stack_synonyms', 0));
    return null;
  end if;
  new.spelling := private.fold_stack(new.spelling);
  new.name := private.fold_stack(new.name);
  if exists (
    select from public.tech_stack_synonyms as s
     where s.id <> new.id
       and s.spelling <> s.name
       and (s.spelling = new.name or s.name = new.spelling and new.spelling <> new.name)
  ) then
    perform private.refuse(409, 'synonym_chain',
      'A name is one that is no spelling of another: let all of its spellings stand for that one.');
  end if;
  return new;
end
$$;

comment on function private.guard_synonym() is 'Spells a synonym as tech stacks are compared, and refuses a synonym of a synonym.';
revoke all on function private.guard_synonym() from public, anon, authenticated, service_role;
alter function private.guard_synonym() owner to speedcoding_keeper;
