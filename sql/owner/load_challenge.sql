with known as (
  select id from public.challenges where slug = $1
),
written as (
  insert into public.challenges as c
    (slug, title, description, required_milestones, ordered, ranked, max_duration, active)
  values ($1, $2, $3, $4, $5, $6, make_interval(secs => $7), $8)
      on conflict (slug) do update
     set title = excluded.title,
         description = excluded.description,
         required_milestones = excluded.required_milestones,
         ordered = excluded.ordered,
         ranked = excluded.ranked,
         max_duration = excluded.max_duration,
         active = excluded.active
   where (c.title, c.description, c.required_milestones, c.ordered, c.ranked, c.max_duration, c.active)
     is distinct from (excluded.title, excluded.description, excluded.required_milestones, excluded.ordered,
                       excluded.ranked, excluded.max_duration, excluded.active)
  returning c.id
),
challenge as (
  select id from written union select id from known
),
listed as (
  select * from unnest($9::integer[], $10::text[], $11::text[], $12::text[]::public.milestone_verification[])
    as l (number, title, description, verification)
),
before as (
  select m.number from public.challenge_milestones as m join challenge on challenge.id = m.challenge_id
),
removed as (
  delete from public.challenge_milestones as m
   using challenge
   where m.challenge_id = challenge.id
     and m.number not in (select number from listed)
  returning m.number
),
placed as (
  insert into public.challenge_milestones as m (challenge_id, number, title, description, verification)
  select challenge.id, l.number, l.title, l.description, l.verification
    from challenge, listed as l
      on conflict (challenge_id, number) do update
     set title = excluded.title,
         description = excluded.description,
         verification = excluded.verification
   where (m.title, m.description, m.verification)
     is distinct from (excluded.title, excluded.description, excluded.verification)
  returning m.number
)
select challenge.id,
       not exists (select from known) as is_new,
       exists (select from written) as changed,
       (select count(*) from placed where number not in (select number from before)) as milestones_added,
       (select count(*) from placed where number in (select number from before)) as milestones_changed,
       (select count(*) from removed) as milestones_removed
  from challenge
