create or replace function private.describe_challenge(challenge uuid) returns private.challenge_result
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select row(
      c.slug, c.title, c.description, c.required_milestones, c.ordered, c.ranked,
      private.duration_ms(c.max_duration),
      coalesce((
        select jsonb_agg(jsonb_build_object(
                 'number', m.number,
                 'title', m.title,
                 'description', m.description,
                 'verification', m.verification
               ) order by m.number)
          from public.challenge_milestones as m
         where m.challenge_id = c.id
      ), '[]')
    )::private.challenge_result
      from public.challenges as c
     where c.id = challenge
  );
end
$$;

comment on function private.describe_challenge(uuid) is 'A challenge with its milestones.';
revoke all on function private.describe_challenge(uuid) from public, anon, authenticated, service_role;
alter function private.describe_challenge(uuid) owner to speedcoding_writer;
