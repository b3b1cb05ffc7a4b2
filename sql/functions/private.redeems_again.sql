-- A client sends a token that was redeemed before. The first redemption opened a window, and nothing extends it.
-- docs/authentication.md says how this tells lost answers and late browser tabs from thieves.
create or replace function private.redeems_again(
  sign_in private.refresh_tokens, presented integer, grace_seconds double precision, patience_seconds double precision
) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  age interval := private.clock() - case presented
    when sign_in.generation - 1 then sign_in.rotated_at
    else sign_in.earlier_rotations[sign_in.generation - 1 - presented]
  end;
begin
  if presented >= sign_in.generation or age is null then
    return false;
  end if;
  return age < grace_seconds * interval '1 second'
    -- The newest token was never used, so its answer was probably lost. This is granted for one generation in four.
    or presented = sign_in.generation - 1
      and age < patience_seconds * interval '1 second'
      and (sign_in.forgiven_generation is null
        or presented = sign_in.forgiven_generation
        or presented >= sign_in.forgiven_generation + 4);
end
$$;

comment on function private.redeems_again(private.refresh_tokens, integer, double precision, double precision) is
  'Whether a refresh token that was redeemed before gets the newest token once more.';
revoke all on function private.redeems_again(private.refresh_tokens, integer, double precision, double precision) from
  public, anon, authenticated, service_role;
grant execute on function private.redeems_again(private.refresh_tokens, integer, double precision, double precision)
  to speedcoding_api;
