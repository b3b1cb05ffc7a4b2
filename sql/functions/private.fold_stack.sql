-- NFKC folds look-alikes; lower, upper, lower is Unicode case folding as far as it can be had before PostgreSQL 18: the
-- first meets ẞ, the second ß and ς. The collation is ICU's, which every build has that Supabase runs. White space
-- counts once, what cannot be seen (soft hyphen, zero-width characters) not at all.
create or replace function private.fold_stack(stack text) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return btrim(lower(upper(lower(normalize(
    regexp_replace(
      regexp_replace(stack, '[\u00AD\u200B-\u200F\u2060\u3164\uFEFF]', '', 'g'), '\s+', ' ', 'g'
    ), nfkc) collate "und-x-icu")))) collate "C";
end
$$;

comment on function private.fold_stack(text) is 'A tech stack, or a name in one, without what spellings differ in: case, width, white space.';
revoke all on function private.fold_stack(text) from public, anon, authenticated, service_role;
grant execute on function private.fold_stack(text) to speedcoding_writer, speedcoding_keeper;
