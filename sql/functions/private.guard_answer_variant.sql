create or replace function private.guard_answer_variant() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- This waits for sessions that are being given the input.
  perform from private.answer_variants where id = old.id for update;
  if exists (select from private.session_inputs where variant_id = old.id) then
    perform private.refuse(409, 'input_given',
      'Sessions have been given this input, so the input and its answer cannot change: set retired, and add another input.');
  end if;
  return case tg_op when 'DELETE' then old end;
end
$$;

comment on function private.guard_answer_variant() is 'Refuses changes to an input that a session was given.';
revoke all on function private.guard_answer_variant() from public, anon, authenticated, service_role;
alter function private.guard_answer_variant() owner to speedcoding_keeper;
