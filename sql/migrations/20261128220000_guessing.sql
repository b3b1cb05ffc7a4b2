-- Guessing leaves its traces, and whose guess was right a moment ago has no say any more.

-- So that the service can tell how many failures of the last hour are noted already, and nothing else.
create index audit_log_failures on private.audit_log (user_id, happened_at) where action = 'sign_in.failed';
create policy audit_log_failures on private.audit_log for select to speedcoding_api
  using (action = 'sign_in.failed');
grant select (action, user_id, happened_at) on private.audit_log to speedcoding_api;
