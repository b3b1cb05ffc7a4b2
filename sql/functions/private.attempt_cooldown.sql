create or replace function private.attempt_cooldown(attempts integer) returns interval
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when attempts >= 7 then interval '10 minutes'
    when attempts >= 4 then interval '5 minutes'
    else interval '1 minute'
  end;
end
$$;

comment on function private.attempt_cooldown(integer) is
  'How long a runner waits after this many failed attempts: 1, 1, 1, 5, 5, 5, then 10 minutes.';
revoke all on function private.attempt_cooldown(integer) from public, anon, authenticated, service_role;
grant execute on function private.attempt_cooldown(integer) to speedcoding_writer;
