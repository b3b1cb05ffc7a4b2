create or replace function private.audit_ban() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'INSERT' then
    -- The ban of a deleted user goes with it.
    insert into private.audit_log (action, user_id, subject_id)
    select 'user.unbanned', u.id, u.id from public.users as u where u.id = old.user_id;
  end if;
  if tg_op <> 'DELETE' then
    insert into private.audit_log (action, user_id, subject_id)
    values ('user.banned', new.user_id, new.user_id);
  end if;
  return null;
end
$$;

comment on function private.audit_ban() is 'Notes in the audit log who was banned, and who was let in again.';
revoke all on function private.audit_ban() from public, anon, authenticated, service_role;
alter function private.audit_ban() owner to speedcoding_keeper;
