create or replace function private.follow_users() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  renamed uuid[];
begin
  select array_agg(n.id)
    into renamed
    from old_rows as o
    join new_rows as n on n.id = o.id
   where n.username <> o.username;
  perform private.settle_runners(renamed);
  return null;
end
$$;

comment on function private.follow_users() is 'Brings the boards up to date after changes of names.';
revoke all on function private.follow_users() from public, anon, authenticated, service_role;
alter function private.follow_users() owner to speedcoding_keeper;
