-- When a moderator corrects a time or a stack in the dashboard, the submission changes in the same transaction. The
-- first row of a statement copies for all rows at once, so that all locks are taken in one order.
create or replace function private.carry_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
    select from public.submissions as s
     where s.session_id = new.id
       and (s.tech_stack, s.tech_stack_key, s.total_ms, s.end_time)
         is distinct from (new.tech_stack, new.tech_stack_key, new.total_ms, new.end_time)
  ) then
    update public.submissions as s
       set tech_stack = n.tech_stack, tech_stack_key = n.tech_stack_key, total_ms = n.total_ms, end_time = n.end_time
      from new_rows as n
     where s.session_id = n.id
       and (s.tech_stack, s.tech_stack_key, s.total_ms, s.end_time)
         is distinct from (n.tech_stack, n.tech_stack_key, n.total_ms, n.end_time);
  end if;
  return null;
end
$$;

comment on function private.carry_session() is 'Copies a session''s stack and times to its submission.';
revoke all on function private.carry_session() from public, anon, authenticated, service_role;
alter function private.carry_session() owner to speedcoding_keeper;
