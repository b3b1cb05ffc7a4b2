-- The one source of time. Clients see whole milliseconds, so the durations that they compute equal those that are
-- ranked. It is not now(), which is the start of the transaction: transactions that waited for a lock would record
-- their splits in the wrong order. Test databases replace this function to move in time.
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
