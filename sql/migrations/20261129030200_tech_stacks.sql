-- Tech stacks: more separators, names that have one in them, and synonyms that administrators edit.

create table public.tech_stack_synonyms (
  id uuid primary key default private.uuid_v7(),
  spelling text not null constraint tech_stack_synonyms_spelling_key unique
    constraint tech_stack_synonyms_spelling_length check (length(spelling) between 1 and 100),
  name text not null constraint tech_stack_synonyms_name_length check (length(name) between 1 and 100)
    constraint tech_stack_synonyms_name_form check (name !~ ',')
);
comment on table public.tech_stack_synonyms is
  'Spellings of names in tech stacks, and the name that each stands for on boards. Boards follow a change.';
comment on column public.tech_stack_synonyms.id is 'UUIDv7.';
comment on column public.tech_stack_synonyms.spelling is
  'What runners write, such as nodejs; upper and lower case do not count. One with a separator in it is not split: pl/sql.';
comment on column public.tech_stack_synonyms.name is
  'What it means: node.js. The same as the spelling, where that is only not to be split.';
revoke all on public.tech_stack_synonyms from public, anon, authenticated, service_role;
alter table public.tech_stack_synonyms enable row level security;
-- Everyone may know what a stack's board is.
create policy tech_stack_synonyms_read on public.tech_stack_synonyms for select to anon, authenticated, speedcoding_writer
  using (true);
create policy tech_stack_synonyms_keep on public.tech_stack_synonyms for select to speedcoding_keeper using (true);
grant select on public.tech_stack_synonyms to anon, authenticated, speedcoding_writer, speedcoding_keeper;
grant select, insert, update, delete on public.tech_stack_synonyms to service_role;
grant update (tech_stack_key) on public.sessions to speedcoding_keeper;

-- What depends on a table cannot be generated.
alter table public.sessions alter column tech_stack_key drop expression;
alter table public.sessions alter column tech_stack_key set default '';
comment on column public.sessions.tech_stack_key is
  'The stack''s board: its names normalised, sorted, without duplicates. Made from tech_stack, whatever is written here.';

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_keeper;

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

-- Boards group runs by this key, so "Rust + Postgres" and "postgresql, rust" must meet in it. Names are separated by
-- , ; / | & + 、 and the word "and". A separator belongs to a name where it must: a plus sign beside another (C++), one
-- that ends a name (A+), and whatever a name has that the table of synonyms knows (PL/SQL). Of a synonym the key has the
-- name that it stands for. A stack of separators alone keeps itself as its key.
create or replace function private.tech_stack_key(tech_stack text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  separators constant text := ',;/|&+、';
  -- What stands for them, and for " and ", inside a name: nobody can type these.
  stand_ins constant text := U&'\E000\E001\E002\E003\E004\E005\E006';
  stand_in_and constant text := U&'\E007';
  folded text := private.fold_stack(translate(tech_stack, stand_ins || stand_in_and, ''));
  known text;
begin
  folded := regexp_replace(folded, '(?<=[^\s,;/|&+、])\+(?=\s*(?:$|[,;/|&、]| and ))', substr(stand_ins, 6, 1), 'g');
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
        from regexp_split_to_table(folded, '[,;/|&、]|(?<!\+)\+(?!\+)| and ') as part
       cross join lateral (
         select btrim(replace(translate(part, stand_ins, separators), stand_in_and, ' and ')) as spelling
       ) as written
        left join public.tech_stack_synonyms as s using (spelling)
       cross join lateral (select coalesce(s.name, spelling) collate "C" as name) as meant
       where spelling <> ''
    ),
    folded
  );
end
$$;

comment on function private.tech_stack_key(text) is
  'What spellings of one tech stack have in common: "postgresql,rust".';
revoke all on function private.tech_stack_key(text) from public, anon, authenticated, service_role;
grant execute on function private.tech_stack_key(text) to speedcoding_writer, speedcoding_keeper;

-- Synonyms that change wait for the keys that are being made, and keys for synonyms that are being changed: none is left
-- behind (private.follow_synonyms).
create or replace function private.key_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_advisory_xact_lock_shared(hashtextextended('tech_stack_synonyms', 0));
  new.tech_stack_key := private.tech_stack_key(new.tech_stack);
  return new;
end
$$;

comment on function private.key_session() is 'Makes the key of a session''s tech stack, whatever is written there.';
revoke all on function private.key_session() from public, anon, authenticated, service_role;
alter function private.key_session() owner to speedcoding_keeper;

create or replace function private.guard_synonym() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('tech_stack_synonyms', 0));
  new.spelling := private.fold_stack(new.spelling);
  new.name := private.fold_stack(new.name);
  if exists (
    select from public.tech_stack_synonyms as s
     where s.id <> new.id
       and s.spelling <> s.name
       and (s.spelling = new.name or s.name = new.spelling and new.spelling <> new.name)
  ) then
    perform private.refuse(409, 'synonym_chain',
      'A name is one that is no spelling of another: let all of its spellings stand for that one.');
  end if;
  return new;
end
$$;

comment on function private.guard_synonym() is 'Folds a synonym as tech stacks are folded, and refuses one of a synonym.';
revoke all on function private.guard_synonym() from public, anon, authenticated, service_role;
alter function private.guard_synonym() owner to speedcoding_keeper;

-- Each stack is keyed once, however many sessions have it. What is carried to submissions and boards follows from there.
create or replace function private.follow_synonyms() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('tech_stack_synonyms', 0));
  with stacks as materialized (
    select distinct tech_stack from public.sessions
  ),
  keyed as materialized (
    select tech_stack, private.tech_stack_key(tech_stack) as key from stacks
  )
  update public.sessions as s
     set tech_stack_key = keyed.key
    from keyed
   where s.tech_stack = keyed.tech_stack
     and s.tech_stack_key <> keyed.key;
  return null;
end
$$;

comment on function private.follow_synonyms() is 'Lets the sessions'' keys, and by them the boards, follow what became of synonyms.';
revoke all on function private.follow_synonyms() from public, anon, authenticated, service_role;
alter function private.follow_synonyms() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_keeper;

create trigger sessions_key before insert or update of tech_stack, tech_stack_key on public.sessions
  for each row execute function private.key_session();
create trigger tech_stack_synonyms_guard before insert or update on public.tech_stack_synonyms
  for each row execute function private.guard_synonym();
create trigger tech_stack_synonyms_follow after insert or update or delete or truncate on public.tech_stack_synonyms
  for each statement execute function private.follow_synonyms();
insert into public.tech_stack_synonyms (spelling, name)
values ('nodejs', 'node.js'), ('node js', 'node.js'), ('golang', 'go'), ('postgres', 'postgresql'), ('pl/sql', 'pl/sql');

-- From now on somebody's hand.
create trigger tech_stack_synonyms_record after insert or update or delete on public.tech_stack_synonyms
  for each row when (current_user not in ('speedcoding_writer', 'speedcoding_keeper') and pg_trigger_depth() = 0)
  execute function private.record_change('tech_stack_synonym', 'id');
