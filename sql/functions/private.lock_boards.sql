create or replace function private.lock_boards(challenges uuid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  insert into private.boards (challenge_id, tech_stack_key)
  select distinct challenge, ''
    from unnest(challenges) as challenge
   where not exists (select from private.boards as b where b.challenge_id = challenge and b.tech_stack_key = '')
   order by challenge
      on conflict do nothing;
  perform
     from private.boards
    where challenge_id = any (challenges)
      and tech_stack_key = ''
    order by challenge_id
      for no key update;
end
$$;

comment on function private.lock_boards(uuid[]) is
  'Makes this transaction the only one that changes these challenges'' boards, locked in order of id.';
revoke all on function private.lock_boards(uuid[]) from public, anon, authenticated, service_role;
alter function private.lock_boards(uuid[]) owner to speedcoding_keeper;
