-- Who has sent no wrong password, which is nearly everybody, is let in after one look.

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer;

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
  if not found then
    return null;
  end if;
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

revoke create on schema private from speedcoding_writer;
