-- How many sessions run, for metrics: as far as their deadlines say so, however many others nobody has ended.

create index sessions_running_deadline on public.sessions (deadline) where status = 'running';

-- A function is given only to an owner that may create in its schema: for the length of this migration.
grant create on schema private to speedcoding_keeper;

-- A session past its deadline has ended, although its row says so only when somebody writes it next.
create or replace function private.count_running_sessions() returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  at timestamptz := private.clock();
begin
  return (select count(*) from public.sessions where status = 'running' and deadline > at);
end
$$;

comment on function private.count_running_sessions() is 'How many sessions run, for metrics.';
revoke all on function private.count_running_sessions() from public, anon, authenticated, service_role;
grant execute on function private.count_running_sessions() to speedcoding_api;
alter function private.count_running_sessions() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_keeper;
