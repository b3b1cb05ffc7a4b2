-- The first wrong passwords are free. From then on each one doubles the wait, up to the longest. When ten networks have
-- failed at one account, somebody is hunting it: a failure from a network that its user does not use then brings the
-- longest wait at once. src/limits/failed_logins.rs says why this locks nobody out.
create or replace function private.fail_login(
  account_digest bytea, network_digest bytea, usual boolean, free integer, longest_seconds double precision
) returns jsonb
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  longest interval := longest_seconds * interval '1 second';
  moment timestamptz;
  failed integer;
  hunted boolean;
  refusal jsonb;
begin
  -- This only makes sure that the row exists, and locks it.
  insert into private.failed_logins as known (account, network, failures, blocked_until, forgotten_at)
  values (account_digest, network_digest, 0, private.clock(), private.clock() + 4 * longest)
  on conflict (account, network) do update set failures = known.failures
  returning case when known.forgotten_at > private.clock() then known.failures else 0 end + 1
  into failed;
  refusal := private.login_delay(account_digest, network_digest);
  if refusal is not null then
    return refusal;
  end if;

  moment := private.clock();
  hunted := not usual and 10 = (
    select count(*)
      from (
        select from private.failed_logins
         where account = account_digest
           and forgotten_at > moment
         limit 10
      ) as networks
  );
  update private.failed_logins
     set failures = failed,
         blocked_until = moment + case
           when hunted then longest
           when failed >= free then longest / power(2, greatest(0, free + 5 - failed))
           else interval '0'
         end,
         forgotten_at = moment + 4 * longest
   where account = account_digest
     and network = network_digest;
  -- Each failure adds one row at most and deletes up to ten old ones, so the table stays small.
  delete from private.failed_logins
   where (account, network) in (
     select account, network
       from private.failed_logins
      where forgotten_at < moment
      order by forgotten_at
      limit 10
        for update skip locked
   );
  return null;
end
$$;

comment on function private.fail_login(bytea, bytea, boolean, integer, double precision) is
  'Records a wrong password. Returns the refusal if there were too many already.';
revoke all on function private.fail_login(bytea, bytea, boolean, integer, double precision) from
  public, anon, authenticated, service_role;
grant execute on function private.fail_login(bytea, bytea, boolean, integer, double precision) to speedcoding_api;
alter function private.fail_login(bytea, bytea, boolean, integer, double precision) owner to speedcoding_writer;
