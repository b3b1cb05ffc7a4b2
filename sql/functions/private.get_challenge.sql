create or replace function private.get_challenge(caller jsonb, slug text) returns private.challenge_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted uuid;
begin
  perform private.enter(caller, anyone => true);
  select c.id
    into wanted
    from public.challenges as c
   where c.slug = get_challenge.slug
     and c.active;
  if not found then
    perform private.refuse(404, 'challenge_not_found', 'There is no such challenge: GET /challenges lists them.');
  end if;
  return private.describe_challenge(wanted);
end
$$;

comment on function private.get_challenge(jsonb, text) is 'One active challenge with its milestones.';
revoke all on function private.get_challenge(jsonb, text) from public, anon, authenticated, service_role;
grant execute on function private.get_challenge(jsonb, text) to speedcoding_api;
alter function private.get_challenge(jsonb, text) owner to speedcoding_writer;
