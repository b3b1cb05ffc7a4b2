-- Views call it as whoever reads them, who cannot call other functions from here: hence the time is given.
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
  'Until when a submission is taken by a moderator: for 30 minutes. Null: nobody has it at that time.';
revoke all on function private.claim_expiry(public.submissions, timestamptz) from
  public, anon, authenticated, service_role;
grant execute on function private.claim_expiry(public.submissions, timestamptz) to
  authenticated, service_role, speedcoding_writer;
