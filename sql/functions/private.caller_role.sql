-- Reads the role from the table and not from the token, so that a demotion or a ban counts at once. It is SECURITY
-- DEFINER because policies call it for roles that may not use this schema.
create or replace function private.caller_role() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select u.role::text
      from public.users as u
     where u.id = private.caller_id()
       and not exists (select from public.bans as b where b.user_id = u.id)
  );
end
$$;

comment on function private.caller_role() is 'The caller''s present role. Null if nobody is signed in, or the caller is banned.';
revoke all on function private.caller_role() from public, anon, authenticated, service_role;
grant execute on function private.caller_role() to anon, authenticated, speedcoding_writer;
alter function private.caller_role() owner to speedcoding_keeper;
