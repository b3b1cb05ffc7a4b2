create or replace function private.demand_pending(judged public.submissions) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if judged.status <> 'PENDING' then
    perform private.refuse(409, 'submission_already_reviewed', format('This submission is %s already.', judged.status),
      jsonb_build_object('submissionStatus', judged.status));
  end if;
end
$$;

comment on function private.demand_pending(public.submissions) is 'Refuses a submission that is already approved or rejected.';
revoke all on function private.demand_pending(public.submissions) from public, anon, authenticated, service_role;
alter function private.demand_pending(public.submissions) owner to speedcoding_writer;
