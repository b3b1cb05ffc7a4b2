-- A day is 24 hours in every time zone, so that a session gets exactly the time that maxDurationMs says.
create or replace function private.duration_ms(duration interval) returns bigint
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return floor(extract(epoch from duration) * 1000)::bigint;
end
$$;

comment on function private.duration_ms(interval) is 'Whole milliseconds of a duration without months.';
revoke all on function private.duration_ms(interval) from public, anon, authenticated, service_role;
grant execute on function private.duration_ms(interval) to service_role, speedcoding_writer;
