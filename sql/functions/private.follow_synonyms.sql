-- Computes each stack's key once, however many sessions have that stack. Submissions and boards follow by triggers.
create or replace function private.follow_synonyms() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('tech_stack_synonyms', 0));
  with stacks as materialized (
    select distinct tech_stack from public.sessions
  ),
  keyed as materialized (
    select tech_stack, private.tech_stack_key(tech_stack) as key from stacks
  )
  update public.sessions as s
     set tech_stack_key = keyed.key
    from keyed
   where s.tech_stack = keyed.tech_stack
     and s.tech_stack_key <> keyed.key;
  return null;
end
$$;

comment on function private.follow_synonyms() is 'Brings the sessions'' keys, and with them the boards, up to date after a change of synonyms.';
revoke all on function private.follow_synonyms() from public, anon, authenticated, service_role;
alter function private.follow_synonyms() owner to speedcoding_keeper;
