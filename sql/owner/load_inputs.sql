-- An input with a changed answer counts as a new input. Runners who have the old one are judged by the old answer.
with listed as (
  select * from unnest($2::integer[], $3::text[], $4::text[]) as l (number, input, answer)
),
known as (
  select distinct on (l.number, l.input) v.id, v.retired, l.number, l.input
    from listed as l
    join private.answer_variants as v
      on v.challenge_id = $1
     and v.milestone_number = l.number
     and v.input = l.input
     and v.digest = private.answer_digest(v.salt, l.answer)
   order by l.number, l.input, v.retired, v.id
),
revived as (
  update private.answer_variants as v
     set retired = false
    from known
   where v.id = known.id
     and known.retired
  returning v.id
),
added as (
  insert into private.answer_variants (challenge_id, milestone_number, input, answer)
  select $1, l.number, l.input, l.answer
    from listed as l
   where not exists (select from known where known.number = l.number and known.input = l.input)
  returning id
)
select array(select id from known union all select id from added) as kept,
       (select count(*) from added) + (select count(*) from revived) as added
