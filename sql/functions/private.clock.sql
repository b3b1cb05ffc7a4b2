-- The one source of time. Milliseconds, because that is what clients are shown: what they compute from the
-- times that they see equals what is ranked. Never now(): the start of a transaction lets those who waited
-- for a lock record splits in the wrong order. Test databases replace this function to travel.
create or replace function private.clock() returns timestamptz
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return date_trunc('milliseconds', clock_timestamp());
end
$$;

comment on function private.clock() is 'The server''s clock, in whole milliseconds: the only source of time.';
revoke all on function private.clock() from public, anon, authenticated, service_role;
grant execute on function private.clock() to
  anon, authenticated, service_role, speedcoding_api, speedcoding_writer, speedcoding_keeper;
