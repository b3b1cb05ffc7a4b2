-- Views call it with the rights of their reader, who may not call private.clock(). So the time is a parameter.
create or replace function private.claim_expiry(taken public.submissions, at timestamptz) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  expires_at timestamptz := taken.claimed_at + interval '30 minutes';
begin
  return case when taken.claimed_by is not null and expires_at > at then expires_at end;
end
$$;

comment on function private.claim_expiry(public.submissions, timestamptz) is
  'The time until which a moderator has a submission: 30 minutes after the claim. Null if nobody has it at the given time.';
revoke all on function private.claim_expiry(public.submissions, timestamptz) from
  public, anon, authenticated, service_role;
grant execute on function private.claim_expiry(public.submissions, timestamptz) to
  authenticated, service_role, speedcoding_writer;
