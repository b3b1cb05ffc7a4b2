-- One shape for every refusal: PostgREST turns SQLSTATE PTxyz into HTTP status xyz, and so does the service.
create or replace function private.refuse(
  status integer, code text, explanation text, members jsonb default null
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using
    errcode = 'PT' || status, message = explanation, hint = code, detail = coalesce(members, '{}')::text;
end
$$;

comment on function private.refuse(integer, text, text, jsonb) is
  'Refuses the request: an HTTP status, a stable code, a sentence for people, further members of the problem.';
revoke all on function private.refuse(integer, text, text, jsonb) from
  public, anon, authenticated, service_role;
grant execute on function private.refuse(integer, text, text, jsonb) to speedcoding_writer, speedcoding_keeper;
