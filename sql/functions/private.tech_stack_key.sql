-- Boards group runs by this key, so "Rust + Postgres" and "postgresql, rust" have the same one. Names are separated by
-- , ; / | & + 、 and the word "and". Some separators belong to a name: a plus sign beside another (C++) or at the end of
-- a name (A+), and those of a name in the table of synonyms (PL/SQL). A synonym is replaced by the name that it stands
-- for. A stack of nothing but separators is its own key.
create or replace function private.tech_stack_key(tech_stack text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  separators constant text := ',;/|&+、';
  -- Stand-ins for separators, and for " and ", inside a name. Users cannot type these characters.
  stand_ins constant text := U&'\E000\E001\E002\E003\E004\E005\E006';
  stand_in_and constant text := U&'\E007';
  folded text := private.fold_stack(translate(tech_stack, stand_ins || stand_in_and, ''));
  known text;
begin
  -- A plus sign that ends a name (A+, Rust), and two of three (C+++Rust).
  folded := regexp_replace(folded,
    '(?<=[^\s,;/|&+、])\+(?=\s*(?:$|[,;/|&、]| and )|\s+\+)', substr(stand_ins, 6, 1), 'g');
  folded := regexp_replace(folded,
    '(?<=[^\s,;/|&+、])\+\+(?=\+[^\s,;/|&+、])', repeat(substr(stand_ins, 6, 1), 2), 'g');
  for known in
    select spelling
      from public.tech_stack_synonyms
     where (spelling ~ '[,;/|&+、]' or spelling like '% and %')
       and strpos(folded, spelling) > 0
     order by length(spelling) desc, spelling
  loop
    folded := regexp_replace(
      folded,
      '(^|[\s,;/|&+、])' || regexp_replace(known, '([^[:alnum:][:space:]])', '\\\1', 'g') || '(?=$|[\s,;/|&+、])',
      '\1' || replace(translate(replace(known, ' and ', stand_in_and), separators, stand_ins), '\', '\\'),
      'g');
  end loop;
  return coalesce(
    (
      select string_agg(distinct meant.name, ',' order by meant.name)
        from regexp_split_to_table(folded, '[,;/|&、]|(?<!\+)\+(?!\+)| (?:and )+') as part
       cross join lateral (
         select btrim(replace(translate(part, stand_ins, separators), stand_in_and, ' and ')) as spelling
       ) as written
       cross join lateral (
         select coalesce(
           (select s.name from public.tech_stack_synonyms as s where s.spelling = written.spelling), written.spelling
         ) collate "C" as name
       ) as meant
       where spelling <> ''
    ),
    folded
  );
end
$$;

comment on function private.tech_stack_key(text) is
  'The key that all spellings of a tech stack share, such as "postgresql,rust".';
revoke all on function private.tech_stack_key(text) from public, anon, authenticated, service_role;
grant execute on function private.tech_stack_key(text) to speedcoding_writer, speedcoding_keeper;
