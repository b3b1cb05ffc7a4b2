-- "45m 12s", "1h 05m 09s", "12s". Parts of a second are cut off, not rounded.
create or replace function private.display_duration(duration_ms bigint) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when duration_ms >= 3600000 then
      (duration_ms / 3600000)::text || 'h '
      || lpad((duration_ms / 60000 % 60)::text, 2, '0') || 'm '
      || lpad((duration_ms / 1000 % 60)::text, 2, '0') || 's'
    when duration_ms >= 60000 then
      (duration_ms / 60000)::text || 'm ' || lpad((duration_ms / 1000 % 60)::text, 2, '0') || 's'
    else (duration_ms / 1000)::text || 's'
  end;
end
$$;

comment on function private.display_duration(bigint) is 'A duration for people, such as "45m 12s".';
revoke all on function private.display_duration(bigint) from public, anon, authenticated, service_role;
grant execute on function private.display_duration(bigint) to
  anon, authenticated, service_role, speedcoding_writer, speedcoding_keeper;
