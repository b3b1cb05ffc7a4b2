create or replace function private.demand_role(role text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(private.caller_role(), '') not in (demand_role.role, 'admin') then
    perform private.refuse(403, 'role_required', format('Only a %s or an admin may do this.', demand_role.role));
  end if;
end
$$;

comment on function private.demand_role(text) is 'Refuses a caller who at this moment has neither this role nor admin.';
revoke all on function private.demand_role(text) from public, anon, authenticated, service_role;
alter function private.demand_role(text) owner to speedcoding_writer;
