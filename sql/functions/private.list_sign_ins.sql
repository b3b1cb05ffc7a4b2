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
      join private.credentials as credential
        on credential.user_id = token.user_id
       and token.epoch = credential.sign_in_epoch
     where token.user_id = me
       and token.revoked_at is null
       and token.live_until > private.clock()
       and (before is null or (token.created_at, token.id) < (
         select last.created_at, last.id from private.refresh_tokens as last where last.id = before))
     order by token.created_at desc, token.id desc
     limit page_size;
end
$$;

comment on function private.list_sign_ins(jsonb, integer, uuid) is
  'The caller''s living sign-ins, the newest first, from those before a given one on.';
revoke all on function private.list_sign_ins(jsonb, integer, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.list_sign_ins(jsonb, integer, uuid) to speedcoding_api;
alter function private.list_sign_ins(jsonb, integer, uuid) owner to speedcoding_writer;
