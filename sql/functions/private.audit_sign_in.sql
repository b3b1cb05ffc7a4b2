create or replace function private.audit_sign_in() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.audit_log (action, actor_id, user_id, subject_id, details)
  values (
    'sign_in.revoked',
    -- A logout has a refresh token and a login has a password. Neither has claims.
    case when new.revoked_reason in ('logout', 'too_many') then new.user_id else private.caller_id() end,
    new.user_id, new.id, jsonb_build_object('cause', new.revoked_reason)
  );
  return null;
end
$$;

comment on function private.audit_sign_in() is 'Writes into the audit log that a sign-in was ended, and why.';
revoke all on function private.audit_sign_in() from public, anon, authenticated, service_role;
alter function private.audit_sign_in() owner to speedcoding_keeper;
