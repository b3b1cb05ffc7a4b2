create or replace function private.refusal(status integer, code text, explanation text, members jsonb default '{}')
returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return members || jsonb_build_object('status', status, 'code', code, 'detail', explanation);
end
$$;

comment on function private.refusal(integer, text, text, jsonb) is
  'The same as private.refuse(), but returned instead of raised, so that the transaction keeps its changes.';
revoke all on function private.refusal(integer, text, text, jsonb) from
  public, anon, authenticated, service_role;
grant execute on function private.refusal(integer, text, text, jsonb) to speedcoding_writer;
