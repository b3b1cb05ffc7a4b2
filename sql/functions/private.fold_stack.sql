-- Invisible characters (soft hyphen, zero-width characters) are removed. NFKC makes look-alikes equal, and white space
-- plain. Lower, upper, lower again is close to Unicode case folding, which PostgreSQL has only from 18 on: the first step
-- changes ẞ, the second ß and ς. The collation is ICU's, which Supabase's builds have. Several white spaces count as one.
create or replace function private.fold_stack(stack text) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return btrim(regexp_replace(
    lower(upper(lower(normalize(
      regexp_replace(stack, '[\u00AD\u200B-\u200F\u2060\u3164\uFEFF]', '', 'g'), nfkc
    ) collate "und-x-icu"))),
    '\s+', ' ', 'g')) collate "C";
end
$$;

comment on function private.fold_stack(text) is 'A tech stack, or a name in one, with the differences of spelling removed: case, width, white space.';
revoke all on function private.fold_stack(text) from public, anon, authenticated, service_role;
grant execute on function private.fold_stack(text) to speedcoding_writer, speedcoding_keeper;
