-- Two answers are equal if their texts are equal in Unicode's composed form, without the white space around them.
create or replace function private.answer_digest(salt bytea, answer text) returns bytea
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return sha256(salt || convert_to(normalize(btrim(answer, E' \t\r\n'), nfc), 'UTF8'));
end
$$;

comment on function private.answer_digest(bytea, text) is 'The salted SHA-256 of an answer, which is stored in its place.';
revoke all on function private.answer_digest(bytea, text) from public, anon, authenticated, service_role;
grant execute on function private.answer_digest(bytea, text) to speedcoding_writer, speedcoding_keeper;
