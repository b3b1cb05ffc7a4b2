-- RATE_LIMITS=off sends null instead of the digests. Then this function and its sisters refuse nothing, because they
-- are strict.
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
  'The refusal while this network has to wait before it tries this account''s password again. Null if it need not wait.';
revoke all on function private.login_delay(bytea, bytea) from public, anon, authenticated, service_role;
grant execute on function private.login_delay(bytea, bytea) to speedcoding_api;
alter function private.login_delay(bytea, bytea) owner to speedcoding_writer;
