create or replace function private.digest_answer() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.answer is not null then
    new.salt := uuid_send(gen_random_uuid());
    new.digest := private.answer_digest(new.salt, new.answer);
    new.answer := null;
  end if;
  return new;
end
$$;

comment on function private.digest_answer() is 'Replaces an answer that is written by its salted digest.';
revoke all on function private.digest_answer() from public, anon, authenticated, service_role;
alter function private.digest_answer() owner to speedcoding_keeper;
