create or replace function private.is_answer(session uuid, milestone integer, answer text) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A runner may answer without having asked for the input.
  perform private.read_input(session, milestone);
  return exists (
    select from private.session_inputs as g
      join private.answer_variants as v on v.id = g.variant_id
     where g.session_id = session
       and g.milestone_number = milestone
       and g.user_id = private.caller_id()
       and v.digest = private.answer_digest(v.salt, is_answer.answer)
  );
end
$$;

comment on function private.is_answer(uuid, integer, text) is 'Whether this answers the input that the caller''s session has for a milestone.';
revoke all on function private.is_answer(uuid, integer, text) from public, anon, authenticated, service_role;
grant execute on function private.is_answer(uuid, integer, text) to speedcoding_writer;
alter function private.is_answer(uuid, integer, text) owner to speedcoding_keeper;
