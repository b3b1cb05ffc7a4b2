-- A check constraint cannot look at the items of an array by itself.
create or replace function private.packages_valid(packages text[]) returns boolean
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return cardinality(packages) <= 200
    -- A list whose items are not lists.
    and coalesce(array_ndims(packages), 1) = 1
    and not exists (
      select from unnest(packages) as package
       where package is null
          or length(package) not between 1 and 214
          or package ~ '[\u0001-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]'
    );
end
$$;

comment on function private.packages_valid(text[]) is 'At most 200 names of 1 to 214 characters each.';
revoke all on function private.packages_valid(text[]) from public, anon, authenticated, service_role;
grant execute on function private.packages_valid(text[]) to
  service_role, speedcoding_writer, speedcoding_keeper;
