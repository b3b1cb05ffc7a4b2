-- Tech stacks: more separators, names that have one in them, and synonyms that administrators edit.

create table public.tech_stack_synonyms (
  id uuid primary key default private.uuid_v7(),
  spelling text not null constraint tech_stack_synonyms_spelling_key unique
    constraint tech_stack_synonyms_spelling_length check (length(spelling) between 1 and 100)
    constraint tech_stack_synonyms_spelling_form check (spelling ~ '[^ ,;/|&+、]'),
  name text not null constraint tech_stack_synonyms_name_length check (length(name) between 1 and 100)
    constraint tech_stack_synonyms_name_form check (name !~ ',' and name ~ '[^ ;/|&+、]')
);
-- The only ones that each key has to look for.
create index tech_stack_synonyms_separators on public.tech_stack_synonyms (spelling)
  where spelling ~ '[,;/|&+、]' or spelling like '% and %';
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

comment on function private.fold_stack(text) is 'A tech stack, or a name in one, without what spellings differ in: case, width, white space.';
revoke all on function private.fold_stack(text) from public, anon, authenticated, service_role;
grant execute on function private.fold_stack(text) to speedcoding_writer, speedcoding_keeper;

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

-- Takes no lock, so a start never waits for an administrator. A start can thus read synonyms that are changing at this
-- moment, and commit after the change has gone through the sessions (private.follow_synonyms). Hence the key is computed
-- anew when the session ends and when it is published. Only a change that stays open from the start to the approval would
-- be missed. One that began later meets each of these updates in the lock on the session's row, and the later of the two
-- sees what the other did.
create or replace function private.key_session() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  new.tech_stack_key := private.tech_stack_key(new.tech_stack);
  return new;
end
$$;

comment on function private.key_session() is 'Makes the key of a session''s tech stack, whatever is written there.';
revoke all on function private.key_session() from public, anon, authenticated, service_role;
alter function private.key_session() owner to speedcoding_keeper;

-- Once for each statement, before any row is locked, it puts changes of synonyms one after another.
create or replace function private.guard_synonym() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_level = 'STATEMENT' then
    perform pg_advisory_xact_lock(hashtextextended('tech_stack_synonyms', 0));
    return null;
  end if;
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

-- Only sessions whose stack has a changed spelling in it get a new key (private.key_session). Submissions and boards follow
-- by triggers. Submissions are locked first, and then sessions, each in order of id: a review has the same order. A session
-- that was handed in between these two locks is left to its approval, which computes the key anew: its submission could be
-- in a reviewer's hands already.
create or replace function private.follow_synonyms() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  -- Null: all.
  changed text[];
  split text;
  touched uuid[];
  handed_in uuid[];
begin
  case tg_op
    when 'INSERT' then
      changed := array(select spelling from new_rows);
    when 'UPDATE' then
      changed := array(select spelling from old_rows union select spelling from new_rows);
    when 'DELETE' then
      changed := array(select spelling from old_rows);
    else
      null;
  end case;

  -- The address of a board has the names of its key, and must lead back to that key.
  select min(s.name)
    into split
    from public.tech_stack_synonyms as s
   where (s.name ~ '[,;/|&+、]' or s.name like '% and %')
     and private.tech_stack_key(s.name) <> s.name;
  if split is not null then
    perform private.refuse(409, 'synonym_split', format(
      'The name %s has a separator in it, so it would be split: give it a row of its own, with the same text as spelling and as name.',
      split));
  end if;

  -- Grouped instead of joined: the time grows with the number of sessions, whatever statistics there are.
  with stacks as materialized (
    select tech_stack, tech_stack_key, private.fold_stack(tech_stack) as folded, array_agg(id) as ids
      from public.sessions
     group by tech_stack, tech_stack_key
  ),
  read_anew as materialized (
    select ids, tech_stack_key, private.tech_stack_key(tech_stack) as key
      from stacks
     where changed is null
        or exists (select from unnest(changed) as spelling where strpos(folded, spelling) > 0)
  )
  select array_agg(id)
    into touched
    from read_anew
   cross join unnest(ids) as id
   where tech_stack_key <> key;
  with locked as (
    select session_id from public.submissions where session_id = any (touched) order by id for no key update
  )
  select array_agg(session_id) into handed_in from locked;
  perform from public.sessions where id = any (touched) order by id for no key update;
  update public.sessions as s
     set tech_stack_key = ''
   where s.id = any (touched)
     and (s.id = any (handed_in) or not exists (select from public.submissions where session_id = s.id));
  return null;
end
$$;

comment on function private.follow_synonyms() is 'Lets the sessions'' keys, and by them the boards, follow what became of synonyms.';
revoke all on function private.follow_synonyms() from public, anon, authenticated, service_role;
alter function private.follow_synonyms() owner to speedcoding_keeper;

revoke create on schema private from speedcoding_keeper;

create trigger sessions_key before insert or update of tech_stack, tech_stack_key, status, published on public.sessions
  for each row execute function private.key_session();
insert into public.tech_stack_synonyms (spelling, name)
values ('nodejs', 'node.js'), ('node js', 'node.js'), ('golang', 'go'), ('postgres', 'postgresql'), ('pl/sql', 'pl/sql');
-- Nobody's edit, so not for the audit log.
alter table public.sessions disable trigger sessions_record;
update public.sessions set tech_stack_key = '' where tech_stack_key <> private.tech_stack_key(tech_stack);
alter table public.sessions enable trigger sessions_record;
create trigger tech_stack_synonyms_lock before insert or update or delete or truncate on public.tech_stack_synonyms
  for each statement execute function private.guard_synonym();
create trigger tech_stack_synonyms_guard before insert or update on public.tech_stack_synonyms
  for each row execute function private.guard_synonym();
create trigger tech_stack_synonyms_follow_insert after insert on public.tech_stack_synonyms
  referencing new table as new_rows
  for each statement execute function private.follow_synonyms();
create trigger tech_stack_synonyms_follow_update after update on public.tech_stack_synonyms
  referencing old table as old_rows new table as new_rows
  for each statement execute function private.follow_synonyms();
create trigger tech_stack_synonyms_follow_delete after delete on public.tech_stack_synonyms
  referencing old table as old_rows
  for each statement execute function private.follow_synonyms();
create trigger tech_stack_synonyms_follow_truncate after truncate on public.tech_stack_synonyms
  for each statement execute function private.follow_synonyms();

-- From now on somebody's hand.
create trigger tech_stack_synonyms_record after insert or update or delete on public.tech_stack_synonyms
  for each row when (current_user not in ('speedcoding_writer', 'speedcoding_keeper') and pg_trigger_depth() = 0)
  execute function private.record_change('tech_stack_synonym', 'id');
