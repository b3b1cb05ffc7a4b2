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

comment on function private.follow_synonyms() is 'Brings the sessions'' keys, and with them the boards, up to date after a change of synonyms.';
revoke all on function private.follow_synonyms() from public, anon, authenticated, service_role;
alter function private.follow_synonyms() owner to speedcoding_keeper;
