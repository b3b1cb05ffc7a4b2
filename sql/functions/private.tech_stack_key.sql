-- Boards group runs by this key, so "Rust + Postgres" and "postgres, rust" must meet in it. NFKC folds
-- look-alikes; lower, upper, lower is Unicode case folding as far as it can be had before PostgreSQL 18: the
-- first meets ẞ, the second ß and ς. The collation is ICU's, which every build has that Supabase runs.
-- White space counts once, what cannot be seen (soft hyphen, zero-width characters) not at all. A plus sign beside
-- another belongs to a name: C++ is not C. A stack of separators alone keeps itself as its key.
create or replace function private.tech_stack_key(tech_stack text) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(
      (
        select string_agg(distinct name, ',' order by name)
          from (
            select btrim(part) collate "C" as name
              from regexp_split_to_table(
                lower(upper(lower(normalize(visible, nfkc) collate "und-x-icu"))),
                '[,/&]|(?<!\+)\+(?!\+)'
              ) as part
          ) as parts
         where name <> ''
      ),
      btrim(visible)
    )
      from regexp_replace(
        regexp_replace(tech_stack, '[\u00AD\u200B-\u200F\u2060\u3164\uFEFF]', '', 'g'), '\s+', ' ', 'g'
      ) as visible
  );
end
$$;

comment on function private.tech_stack_key(text) is
  'What two spellings of one tech stack have in common: "postgres,rust".';
revoke all on function private.tech_stack_key(text) from public, anon, authenticated, service_role;
grant execute on function private.tech_stack_key(text) to
  service_role, speedcoding_writer, speedcoding_keeper;
