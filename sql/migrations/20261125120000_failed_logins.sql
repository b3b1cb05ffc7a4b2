-- Wrong passwords, so that all replicas know of them, also after a restart.

create table private.failed_logins (
  account bytea constraint failed_logins_account_digest check (length(account) = 32),
  network bytea constraint failed_logins_network_digest check (length(network) = 32),
  failures integer not null,
  blocked_until timestamptz not null,
  forgotten_at timestamptz not null,
  primary key (account, network)
);
create index failed_logins_forgotten_at on private.failed_logins (forgotten_at);

comment on table private.failed_logins is
  'Wrong passwords of the last hour, by account and network. Names and addresses are in it as digests only.';
comment on column private.failed_logins.account is
  'HMAC-SHA-256 of the user name, with a key that the service alone has; there need be no such account.';
comment on column private.failed_logins.network is 'The same of the user name and the network.';
comment on column private.failed_logins.failures is 'How many wrong passwords there were since the last right one.';
comment on column private.failed_logins.blocked_until is 'Until then no password is tried.';
comment on column private.failed_logins.forgotten_at is 'From then on it counts no more, and the row may go.';

revoke all on private.failed_logins from public, anon, authenticated, service_role;
alter table private.failed_logins enable row level security;
-- Whose failures they are nobody can tell from the row: the functions below are the only way to it.
create policy failed_logins_count on private.failed_logins for all to speedcoding_writer
  using (true) with check (true);
grant select, insert, update, delete on private.failed_logins to speedcoding_writer;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer;

-- Why nobody may try this account's password from this network now; null where one may. Without the digests
-- (RATE_LIMITS turns the limit off) nothing is refused: all of these functions are strict.
create or replace function private.login_delay(account_digest bytea, network_digest bytea) returns jsonb
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select private.refusal(
             429, 'too_many_failed_logins', format('Too many wrong passwords: try again in %s s.', seconds),
             jsonb_build_object('retryAfter', seconds))
      from (
        select ceil(extract(epoch from blocked_until - private.clock()))::integer as seconds
          from private.failed_logins
         where account = account_digest
           and network = network_digest
      ) as delay
     where seconds > 0
  );
end
$$;

comment on function private.login_delay(bytea, bytea) is
  'The refusal for whoever has sent too many wrong passwords; null for others.';
revoke all on function private.login_delay(bytea, bytea) from public, anon, authenticated, service_role;
grant execute on function private.login_delay(bytea, bytea) to speedcoding_api;
alter function private.login_delay(bytea, bytea) owner to speedcoding_writer;

-- The right password. Failures that are being recorded at this moment count first: of many guesses at once no more
-- are answered than of guesses one after another, and whether a later one was right is not told.
create or replace function private.pass_login(account_digest bytea, network_digest bytea) returns jsonb
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  refusal jsonb;
begin
  perform from private.failed_logins where account = account_digest and network = network_digest for update;
  refusal := private.login_delay(account_digest, network_digest);
  if refusal is null then
    delete from private.failed_logins where account = account_digest and network = network_digest;
  end if;
  return refusal;
end
$$;

comment on function private.pass_login(bytea, bytea) is
  'Forgets the wrong passwords before a right one; or the refusal where there were too many.';
revoke all on function private.pass_login(bytea, bytea) from public, anon, authenticated, service_role;
grant execute on function private.pass_login(bytea, bytea) to speedcoding_api;
alter function private.pass_login(bytea, bytea) owner to speedcoding_writer;

-- A wrong password. The first ones are free; from then on each doubles the wait, up to the longest. Where ten
-- networks fail at one account it is hunted: from a network that is not a usual one of its user, the longest wait
-- follows at once. Why this locks nobody out: src/limits.rs.
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
  -- Nothing is changed yet: the row is there, and locked.
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
  -- What is forgotten goes, a little with each failure: faster than it comes.
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
  'Records a wrong password; or the refusal where there were too many already.';
revoke all on function private.fail_login(bytea, bytea, boolean, integer, double precision) from
  public, anon, authenticated, service_role;
grant execute on function private.fail_login(bytea, bytea, boolean, integer, double precision) to speedcoding_api;
alter function private.fail_login(bytea, bytea, boolean, integer, double precision) owner to speedcoding_writer;

revoke create on schema private from speedcoding_writer;
