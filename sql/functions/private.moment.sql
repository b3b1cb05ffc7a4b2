create or replace function private.moment(at timestamptz) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
end
$$;

comment on function private.moment(timestamptz) is 'A time as the API writes it: RFC 3339, UTC, milliseconds.';
revoke all on function private.moment(timestamptz) from public, anon, authenticated, service_role;
grant execute on function private.moment(timestamptz) to speedcoding_writer;
