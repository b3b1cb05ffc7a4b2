create or replace function private.audit_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    insert into private.audit_log (action, user_id, subject_id, details)
    values ('user.registered', new.id, new.id, jsonb_build_object('role', new.role));
    return null;
  end if;
  if tg_op = 'DELETE' then
    -- delete_me() writes its own entry.
    insert into private.audit_log (action, user_id)
    select 'user.erased', old.id where private.caller_id() is null;
    return null;
  end if;
  -- delete_me() also changes the name.
  if new.username <> old.username and new.erased_at is null then
    insert into private.audit_log (action, user_id, subject_id)
    values ('user.renamed', new.id, new.id);
  end if;
  if new.role <> old.role then
    insert into private.audit_log (action, user_id, subject_id, details)
    values ('user.role_changed', new.id, new.id, jsonb_build_object('from', old.role, 'to', new.role));
  end if;
  return null;
end
$$;

comment on function private.audit_user() is 'Writes into the audit log that an account was made, renamed, given a role or removed.';
revoke all on function private.audit_user() from public, anon, authenticated, service_role;
alter function private.audit_user() owner to speedcoding_keeper;
