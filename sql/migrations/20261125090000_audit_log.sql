-- What happened, who did it, to whom: written by the service, by domain functions and by triggers; changed by nobody.

create table private.audit_log (
  id uuid primary key default private.uuid_v7(),
  happened_at timestamptz not null default private.clock(),
  action text not null constraint audit_log_action_form check (action ~ '^[a-z_]+\.[a-z_]+$'),
  -- No foreign keys: what happened stays when its rows go.
  actor_id uuid default private.caller_id(),
  database_role text not null default coalesce(nullif(current_setting('role'), 'none'), session_user),
  user_id uuid,
  subject_id uuid,
  details jsonb not null default '{}' constraint audit_log_details_object check (jsonb_typeof(details) = 'object')
);
create index audit_log_user_id on private.audit_log (user_id, id);
create index audit_log_subject_id on private.audit_log (subject_id, id);

comment on table private.audit_log is
  'What happened, append-only. No names and no addresses are in it, so that an account can be erased.';
comment on column private.audit_log.id is 'UUIDv7: in the order of time.';
comment on column private.audit_log.happened_at is 'When, by the server''s clock.';
comment on column private.audit_log.action is 'What, as subject.verb: submission.approved, sign_in.revoked.';
comment on column private.audit_log.actor_id is 'The user who did it, where the request had one.';
comment on column private.audit_log.database_role is
  'The database role that did it: speedcoding_api for the service, postgres or service_role for the dashboard.';
comment on column private.audit_log.user_id is 'The user to whom it happened.';
comment on column private.audit_log.subject_id is 'The row that it happened to: a sign-in, a session, a submission.';
comment on column private.audit_log.details is 'What else there is to know, such as the cause.';

revoke all on private.audit_log from public, anon, authenticated, service_role;
alter table private.audit_log enable row level security;
-- The service and the triggers write what they find; a domain function writes in its caller's name only.
create policy audit_log_append on private.audit_log for insert
  to speedcoding_api, speedcoding_keeper, speedcoding_writer
  with check (current_user <> 'speedcoding_writer' or actor_id is not distinct from (select private.caller_id()));
grant insert (action, actor_id, user_id, subject_id, details) on private.audit_log to
  speedcoding_api, speedcoding_writer, speedcoding_keeper;
-- The defaults above are evaluated as whoever writes.
grant execute on function private.caller_id() to speedcoding_api;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_keeper;

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

revoke create on schema private from speedcoding_keeper;

create trigger audit_log_guard before update or delete or truncate on private.audit_log
  for each statement execute function private.guard_audit_log();
