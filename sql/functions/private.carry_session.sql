-- A time or a stack corrected in the dashboard reaches the submission in the same transaction.
create or replace function private.carry_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update public.submissions
     set tech_stack_key = new.tech_stack_key, total_ms = new.total_ms, end_time = new.end_time
   where session_id = new.id;
  return null;
end
$$;

comment on function private.carry_session() is 'Copies a session''s stack and times to its submission.';
revoke all on function private.carry_session() from public, anon, authenticated, service_role;
alter function private.carry_session() owner to speedcoding_keeper;
