with retired as (
  update private.answer_variants
     set retired = true
   where challenge_id = $1
     and not retired
     and id <> all ($2::uuid[])
  returning id
)
select count(*) as retired from retired
