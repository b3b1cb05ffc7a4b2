-- UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits. A version 4 UUID with the
-- time laid over its first six bytes; setting bits 52 and 53 turns its version from 0100 into 0111.
create or replace function private.uuid_v7() returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return encode(
    set_bit(
      set_bit(
        overlay(
          uuid_send(gen_random_uuid())
          placing substring(int8send((extract(epoch from private.clock()) * 1000)::bigint) from 3)
          from 1 for 6
        ), 52, 1
      ), 53, 1
    ), 'hex')::uuid;
end
$$;

comment on function private.uuid_v7() is 'A new time-ordered id (RFC 9562).';
revoke all on function private.uuid_v7() from public, anon, authenticated, service_role;
grant execute on function private.uuid_v7() to
  service_role, speedcoding_api, speedcoding_writer, speedcoding_keeper;
