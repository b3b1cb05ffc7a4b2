create or replace function private.went_back(before bigint, read_at timestamptz, latest timestamptz) returns bigint
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- greatest() ignores nulls.
  return greatest(before, case when read_at < latest then private.elapsed_ms(read_at, latest) end);
end
$$;

comment on function private.went_back(bigint, timestamptz, timestamptz) is
  'The largest number of milliseconds by which the clock was behind a time that it had told before. Null if it never was.';
revoke all on function private.went_back(bigint, timestamptz, timestamptz) from public, anon, authenticated, service_role;
grant execute on function private.went_back(bigint, timestamptz, timestamptz) to speedcoding_writer;
