create or replace function private.takes_input(verification public.milestone_verification) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  takes boolean;
begin
  case verification
    when 'answer' then
      takes := true;
    when 'manual', 'verifier' then
      takes := false;
    else
      perform private.refuse_verification(verification::text);
  end case;
  return takes;
end
$$;

comment on function private.takes_input(public.milestone_verification) is
  'Whether a milestone with this verification gives its runners inputs from private.answer_variants.';
revoke all on function private.takes_input(public.milestone_verification) from
  public, anon, authenticated, service_role;
alter function private.takes_input(public.milestone_verification) owner to speedcoding_keeper;
