create or replace function private.empty_boards() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.rebuild_boards();
  return null;
end
$$;

comment on function private.empty_boards() is 'Empties the boards after a TRUNCATE.';
revoke all on function private.empty_boards() from public, anon, authenticated, service_role;
alter function private.empty_boards() owner to speedcoding_keeper;
