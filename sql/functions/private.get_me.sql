create or replace function private.get_me(
  caller jsonb, out id uuid, out username text, out role text, out created_at timestamptz
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := private.enter(caller);
begin
  select u.id, u.username, u.role::text, u.created_at
    into get_me.id, get_me.username, get_me.role, get_me.created_at
    from public.users as u
   where u.id = me;
end
$$;

comment on function private.get_me(jsonb) is 'The caller''s own account.';
revoke all on function private.get_me(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.get_me(jsonb) to speedcoding_api;
alter function private.get_me(jsonb) owner to speedcoding_writer;
