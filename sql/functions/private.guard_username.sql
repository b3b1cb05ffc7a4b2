create or replace function private.guard_username() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- delete_me() sets the name and erased_at in one statement.
  if new.erased_at is null and lower(new.username) like 'erased-%' then
    -- Users who had such a name before this rule keep it.
    if tg_op = 'INSERT' or lower(new.username) <> lower(old.username) then
      perform private.refuse(400, 'invalid_request', 'username must not begin with erased-: erased accounts are called so.',
        jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
          'field', 'username', 'code', 'reserved',
          'message', 'must not begin with erased-: erased accounts are called so'))));
    end if;
  end if;
  return new;
end
$$;

comment on function private.guard_username() is 'Refuses a name that looks like that of an erased account.';
revoke all on function private.guard_username() from public, anon, authenticated, service_role;
alter function private.guard_username() owner to speedcoding_keeper;
