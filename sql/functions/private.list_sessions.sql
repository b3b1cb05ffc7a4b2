-- Ids are ordered by time (UUIDv7), so the newest come first by id alone, from the index on (user_id, id).
create or replace function private.list_sessions(caller jsonb, page_size integer, before uuid default null)
returns setof private.session_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  runner uuid := private.enter(caller);
begin
  return query
    select described.*
      from (
        select id
          from public.sessions
         where user_id = runner
           and (before is null or id < before)
         order by id desc
         limit page_size
      ) as page
     cross join lateral private.describe_session(page.id) as described
     order by page.id desc;
end
$$;

comment on function private.list_sessions(jsonb, integer, uuid) is
  'The caller''s own sessions, the newest first, from those before an id on.';
revoke all on function private.list_sessions(jsonb, integer, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.list_sessions(jsonb, integer, uuid) to speedcoding_api;
alter function private.list_sessions(jsonb, integer, uuid) owner to speedcoding_writer;
