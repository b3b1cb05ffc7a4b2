-- Function bodies call this and never auth.uid(), because only Supabase's own roles may use the schema auth.
create or replace function private.caller_id() returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid;
end
$$;

comment on function private.caller_id() is 'The user whose verified claims are set for this transaction, or null.';
revoke all on function private.caller_id() from public, anon, authenticated, service_role;
grant execute on function private.caller_id() to speedcoding_api, speedcoding_writer, speedcoding_keeper;
