-- When a sign-in is alive is said once, by its row, rather than by each statement that asks.
alter table private.refresh_tokens add column live_until timestamptz
  generated always as (case when revoked_at is null then least(idle_expires_at, expires_at) end) stored;
comment on column private.refresh_tokens.live_until is 'It is alive until then; null where it was ended.';
grant select (live_until) on private.refresh_tokens to speedcoding_writer;

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
  select account.id, account.banned_at
    into signed_in
    from private.refresh_tokens as token
    join public.users as account on account.id = token.user_id
   where token.id = (caller ->> 'session_id')::uuid
     and token.user_id = (caller ->> 'sub')::uuid
     and token.live_until > private.clock();
  if not found then
    perform private.refuse(401, 'sign_in_ended', 'This sign-in has ended: log in again.');
  end if;
  if signed_in.banned_at is not null then
    perform private.refuse(403, 'account_banned', 'This account is banned.');
  end if;
  return signed_in.id;
end
$$;

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
       and token.live_until > private.clock()
       and (before is null or (token.created_at, token.id) < (
         select last.created_at, last.id from private.refresh_tokens as last where last.id = before))
     order by token.created_at desc, token.id desc
     limit page_size;
end
$$;

create or replace function private.change_password(
  caller jsonb, old_hash text, new_hash text, out ended bigint
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := private.enter(caller);
begin
  update private.credentials
     set password_hash = new_hash, updated_at = private.clock()
   where user_id = me
     and password_hash = old_hash;
  -- Changed since it was compared: it has to be compared again.
  if not found then
    return;
  end if;
  -- A statement of its own: a login that held the row above has opened its sign-in by now. All are locked in the order
  -- of their ids, and then ended by what they are: a join would go through all of them for each, where PostgreSQL
  -- expects few.
  perform from private.refresh_tokens where user_id = me order by id for update;
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = 'password_changed'
   where user_id = me
     and id <> (caller ->> 'session_id')::uuid
     and live_until > private.clock();
  get diagnostics ended = row_count;
  insert into private.audit_log (action, actor_id, user_id)
  values ('user.password_changed', me, me);
end
$$;
