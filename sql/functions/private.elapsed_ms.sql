create or replace function private.elapsed_ms(from_time timestamptz, to_time timestamptz) returns bigint
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return floor(extract(epoch from to_time - from_time) * 1000)::bigint;
end
$$;

comment on function private.elapsed_ms(timestamptz, timestamptz) is
  'Whole milliseconds from one time to another: the unit of ranking, ties and display.';
revoke all on function private.elapsed_ms(timestamptz, timestamptz) from
  public, anon, authenticated, service_role;
grant execute on function private.elapsed_ms(timestamptz, timestamptz) to
  anon, authenticated, service_role, speedcoding_writer, speedcoding_keeper;
