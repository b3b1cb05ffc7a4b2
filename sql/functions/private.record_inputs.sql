-- Counts only: the log holds neither inputs nor answers.
create or replace function private.record_inputs() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.audit_log (action, subject_id, details)
  select 'challenge_input.' || case tg_op when 'INSERT' then 'added' else 'changed' end,
         r.challenge_id,
         jsonb_build_object('milestoneNumber', r.milestone_number, 'count', count(*), 'retired', count(*) filter (where r.retired))
    from new_rows as r
   group by r.challenge_id, r.milestone_number
   order by r.milestone_number;
  return null;
end
$$;

comment on function private.record_inputs() is 'Writes into the audit log how many inputs of which milestone were added or changed.';
revoke all on function private.record_inputs() from public, anon, authenticated, service_role;
alter function private.record_inputs() owner to speedcoding_keeper;
