-- Keeps the old values of a row that somebody changes by hand. It does not log what runners and verifiers do: the rows
-- themselves say when that happened, and the triggers refuse to undo it.
create or replace function private.record_change() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  subject jsonb := coalesce(after, before);
begin
  insert into private.audit_log (action, user_id, subject_id, details)
  select tg_argv[0] || case tg_op when 'INSERT' then '.added' when 'UPDATE' then '.changed' else '.deleted' end,
         (subject ->> 'user_id')::uuid,
         (subject ->> tg_argv[1])::uuid,
         jsonb_strip_nulls(jsonb_build_object('milestoneNumber', coalesce(subject -> 'milestone_number', subject -> 'number')))
         || case
           when tg_op <> 'UPDATE' then '{}'
           else jsonb_build_object('was', (
             select jsonb_object_agg(b.key, b.value)
               from jsonb_each(before) as b
              where b.value is distinct from after -> b.key
                -- The log holds no text that a runner wrote, because it may be a name.
                and b.key not in ('tech_stack', 'tech_stack_key')))
         end;
  return null;
end
$$;

comment on function private.record_change() is 'Writes changes that somebody made by hand into the audit log, with the old values.';
revoke all on function private.record_change() from public, anon, authenticated, service_role;
alter function private.record_change() owner to speedcoding_keeper;
