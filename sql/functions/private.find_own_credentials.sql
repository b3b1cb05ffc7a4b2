create or replace function private.find_own_credentials(
  caller jsonb, out username text, out password_hash text
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := (caller ->> 'sub')::uuid;
begin
  -- An erased account has no row. So a repeated erasure answers as the first time.
  if exists (select from public.users as u where u.id = me and u.erased_at is null) then
    me := private.enter(caller);
    select u.username, c.password_hash
      into find_own_credentials.username, find_own_credentials.password_hash
      from public.users as u
      join private.credentials as c on c.user_id = u.id
     where u.id = me;
  end if;
end
$$;

comment on function private.find_own_credentials(jsonb) is
  'The caller''s name and password hash, for requests that ask for the password again. Empty if the account is erased.';
revoke all on function private.find_own_credentials(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.find_own_credentials(jsonb) to speedcoding_api;
alter function private.find_own_credentials(jsonb) owner to speedcoding_writer;
