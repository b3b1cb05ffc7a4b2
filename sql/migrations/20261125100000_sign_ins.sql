-- Sign-ins end, and whoever ends one, it is noted.

-- A user's own sign-ins are listed and ended through the functions.
create policy refresh_tokens_end on private.refresh_tokens for update to speedcoding_writer
  using (user_id = (select private.caller_id()))
  with check (user_id = (select private.caller_id()));
grant select (created_at, rotated_at, user_agent, ip), update (revoked_at, revoked_reason)
  on private.refresh_tokens to speedcoding_writer;
comment on column private.refresh_tokens.revoked_reason is
  'Why it was ended: logout, signed_out (from another device), password_changed, reuse or rollback of a token.';

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer, speedcoding_keeper;

create or replace function private.audit_sign_in() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.audit_log (action, actor_id, user_id, subject_id, details)
  values (
    'sign_in.revoked',
    -- A logout bears a refresh token, and no claims.
    case new.revoked_reason when 'logout' then new.user_id else private.caller_id() end,
    new.user_id, new.id, jsonb_build_object('cause', new.revoked_reason)
  );
  return null;
end
$$;

comment on function private.audit_sign_in() is 'Notes in the audit log that a sign-in was ended, and why.';
revoke all on function private.audit_sign_in() from public, anon, authenticated, service_role;
alter function private.audit_sign_in() owner to speedcoding_keeper;

create or replace function private.list_sign_ins(caller jsonb, page_size integer, before uuid default null)
returns table (
  id uuid, device text, address text, created_at timestamptz, last_used_at timestamptz, current boolean
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := private.enter(caller);
begin
  return query
    select token.id, token.user_agent, host(token.ip), token.created_at,
           coalesce(token.rotated_at, token.created_at), token.id = (caller ->> 'session_id')::uuid
      from private.refresh_tokens as token
     where token.user_id = me
       and token.revoked_at is null
       and least(token.idle_expires_at, token.expires_at) > private.clock()
       and (before is null or (token.created_at, token.id) < (
         select last.created_at, last.id from private.refresh_tokens as last where last.id = before))
     order by token.created_at desc, token.id desc
     limit page_size;
end
$$;

comment on function private.list_sign_ins(jsonb, integer, uuid) is
  'The caller''s living sign-ins, the newest first, from before one of them on.';
revoke all on function private.list_sign_ins(jsonb, integer, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.list_sign_ins(jsonb, integer, uuid) to speedcoding_api;
alter function private.list_sign_ins(jsonb, integer, uuid) owner to speedcoding_writer;

create or replace function private.end_sign_in(caller jsonb, sign_in uuid, out ended boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := private.enter(caller);
begin
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = 'signed_out'
   where id = sign_in
     and user_id = me
     and revoked_at is null;
  ended := found;
  -- Again: as the first time.
  if not ended and not exists (select from private.refresh_tokens where id = sign_in and user_id = me) then
    perform private.refuse(404, 'sign_in_not_found', 'There is no such sign-in of yours: GET /auth/sign-ins lists them.');
  end if;
end
$$;

comment on function private.end_sign_in(jsonb, uuid) is
  'Ends one of the caller''s sign-ins; whether it was this call that did.';
revoke all on function private.end_sign_in(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.end_sign_in(jsonb, uuid) to speedcoding_api;
alter function private.end_sign_in(jsonb, uuid) owner to speedcoding_writer;

revoke create on schema private from speedcoding_writer, speedcoding_keeper;

-- One place, so that no end can be forgotten: the service, a domain function, the dashboard.
create trigger refresh_tokens_audit after update on private.refresh_tokens
  for each row when (old.revoked_at is null and new.revoked_at is not null)
  execute function private.audit_sign_in();
