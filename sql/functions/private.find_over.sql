create or replace function private.find_over(
  session uuid, status public.session_status, deadline timestamptz, found_at timestamptz
) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if status = 'running' then
    if found_at < deadline then
      return null;
    end if;
    perform private.expire_session(session);
    status := 'expired';
  end if;
  return private.refusal(409,
    case when status = 'expired' then 'session_expired' else 'session_already_ended' end,
    format('This session %s: no milestone can be passed any more.',
      case status when 'judging' then 'has ended and waits for its verdicts' else 'is ' || status end),
    jsonb_build_object('sessionId', session));
end
$$;

comment on function private.find_over(uuid, public.session_status, timestamptz, timestamptz) is
  'The refusal for a session in which no milestone can be passed any more. Null while it runs. Stores that a session has expired.';
revoke all on function private.find_over(uuid, public.session_status, timestamptz, timestamptz) from
  public, anon, authenticated, service_role;
alter function private.find_over(uuid, public.session_status, timestamptz, timestamptz) owner to speedcoding_writer;
