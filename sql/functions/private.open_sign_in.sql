create or replace function private.open_sign_in() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A login has locked this row. During a registration there is no row yet.
  select sign_in_epoch into new.epoch from private.credentials where user_id = new.user_id;
  new.epoch := coalesce(new.epoch, 0);
  return new;
end
$$;

comment on function private.open_sign_in() is 'Gives a new sign-in the epoch of its account.';
revoke all on function private.open_sign_in() from public, anon, authenticated, service_role;
