create or replace function private.refuse_verification(verification text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.refuse(501, 'verification_unknown', format(
    'This milestone has the verification "%s", which the service does not know, so nothing was changed. The operator of the service can help.',
    verification));
end
$$;

comment on function private.refuse_verification(text) is
  'Refuses a milestone whose kind of verification the calling rule does not know. Each rule that decides by the kind ends with this call.';
revoke all on function private.refuse_verification(text) from public, anon, authenticated, service_role;
grant execute on function private.refuse_verification(text) to speedcoding_writer, speedcoding_keeper;
