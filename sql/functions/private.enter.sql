-- The first line of every domain function. From here on the policies see the caller, until the end of this transaction,
-- so no caller stays on a pooled connection. Logouts, ended sign-ins and bans count at once, even if the access token
-- has not expired.
create or replace function private.enter(caller jsonb, anyone boolean default false) returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  signed_in record;
begin
  perform set_config('request.jwt.claims', coalesce(caller, '{"role": "anon"}')::text, true);
  if caller is null then
    if not anyone then
      perform private.refuse(401, 'missing_token', 'Send an access token: log in to get one.');
    end if;
    return null;
  end if;
  select token.user_id, ban.user_id is not null as is_banned
    into signed_in
    from private.refresh_tokens as token
    join private.credentials as credential
      on credential.user_id = token.user_id
     and token.epoch = credential.sign_in_epoch
    left join public.bans as ban on ban.user_id = token.user_id
   where token.id = (caller ->> 'session_id')::uuid
     and token.user_id = (caller ->> 'sub')::uuid
     and token.live_until > private.clock();
  if not found then
    perform private.refuse(401, 'sign_in_ended', 'This sign-in has ended: log in again.');
  end if;
  if signed_in.is_banned then
    perform private.refuse(403, 'account_banned', 'This account is banned.');
  end if;
  return signed_in.user_id;
end
$$;

comment on function private.enter(jsonb, boolean) is
  'Makes the verified claims the caller of this transaction and returns the user''s id. Refuses a caller whose sign-in has ended or who is banned.';
revoke all on function private.enter(jsonb, boolean) from public, anon, authenticated, service_role;
grant execute on function private.enter(jsonb, boolean) to speedcoding_writer;
alter function private.enter(jsonb, boolean) owner to speedcoding_writer;
