-- A policy that read another table would recurse. So each row says itself whether the run is public.
create or replace function private.publish_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  subject uuid := case when tg_op = 'DELETE' then old.session_id else new.session_id end;
  approved boolean := tg_op <> 'DELETE' and new.status = 'APPROVED';
begin
  update public.sessions set published = approved where id = subject;
  update public.milestones set published = approved where session_id = subject;
  return null;
end
$$;

comment on function private.publish_session() is
  'Makes a run visible to everyone while its submission is approved.';
revoke all on function private.publish_session() from public, anon, authenticated, service_role;
alter function private.publish_session() owner to speedcoding_keeper;
