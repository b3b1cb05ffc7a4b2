create or replace function private.follow_bans() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  changed uuid[];
begin
  -- The runs of a deleted user go by themselves.
  if tg_op <> 'INSERT' then
    select array_agg(u.id) into changed from old_rows as o join public.users as u on u.id = o.user_id;
  end if;
  if tg_op <> 'DELETE' then
    select changed || array_agg(n.user_id) into changed from new_rows as n;
  end if;
  perform private.settle_runners(changed);
  return null;
end
$$;

comment on function private.follow_bans() is 'Lets the boards follow bans.';
revoke all on function private.follow_bans() from public, anon, authenticated, service_role;
alter function private.follow_bans() owner to speedcoding_keeper;
