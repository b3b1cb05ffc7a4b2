-- Sign-ins end, and whoever ends one, it is noted.

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_keeper;

create or replace function private.audit_sign_in() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.audit_log (action, actor_id, user_id, subject_id, details)
  values (
    'sign_in.revoked',
    -- A logout bears a refresh token, and no claims.
    case new.revoked_reason when 'logout' then new.user_id else private.caller_id() end,
    new.user_id, new.id, jsonb_build_object('cause', new.revoked_reason)
  );
  return null;
end
$$;

comment on function private.audit_sign_in() is 'Notes in the audit log that a sign-in was ended, and why.';
revoke all on function private.audit_sign_in() from public, anon, authenticated, service_role;
alter function private.audit_sign_in() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_keeper;

create trigger refresh_tokens_audit after update on private.refresh_tokens
  for each row when (old.revoked_at is null and new.revoked_at is not null)
  execute function private.audit_sign_in();

comment on column private.refresh_tokens.revoked_reason is
  'Why it was ended: logout, reuse or rollback of a refresh token, password_changed, ended from another device.';
