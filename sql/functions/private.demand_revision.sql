create or replace function private.demand_revision(judged public.submissions, revision integer) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if judged.revision <> demand_revision.revision then
    perform private.refuse(409, 'stale_revision',
      format('This submission has changed: it is at revision %s now.', judged.revision),
      jsonb_build_object('revision', judged.revision));
  end if;
end
$$;

comment on function private.demand_revision(public.submissions, integer) is 'Refuses a request that was made for another revision.';
revoke all on function private.demand_revision(public.submissions, integer) from public, anon, authenticated, service_role;
alter function private.demand_revision(public.submissions, integer) owner to speedcoding_writer;
