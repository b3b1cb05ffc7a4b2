-- Called when a password is right. It waits for failures that are being recorded at this moment. So a client that sends
-- many guesses at once gets no more of them answered than with one guess after another.
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
  'Deletes the count of wrong passwords after a right one. Returns the refusal if there were too many.';
revoke all on function private.pass_login(bytea, bytea) from public, anon, authenticated, service_role;
grant execute on function private.pass_login(bytea, bytea) to speedcoding_api;
alter function private.pass_login(bytea, bytea) owner to speedcoding_writer;
