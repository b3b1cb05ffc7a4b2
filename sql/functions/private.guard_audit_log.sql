create or replace function private.guard_audit_log() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.refuse(403, 'audit_log_append_only', 'The audit log is append-only: nothing in it can be changed or removed.');
  return null;
end
$$;

comment on function private.guard_audit_log() is 'Refuses every change to what is in the audit log.';
revoke all on function private.guard_audit_log() from public, anon, authenticated, service_role;
alter function private.guard_audit_log() owner to speedcoding_keeper;
