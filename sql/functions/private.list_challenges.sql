create or replace function private.list_challenges(caller jsonb, page_size integer, after text default null)
returns setof private.challenge_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform private.enter(caller, anyone => true);
  return query
    select described.*
      from (
        select id, slug
          from public.challenges
         where active
           and (after is null or slug > after)
         order by slug
         limit page_size
      ) as page
     cross join lateral private.describe_challenge(page.id) as described
     order by page.slug;
end
$$;

comment on function private.list_challenges(jsonb, integer, text) is
  'The active challenges with their milestones, in order of slug, after a given one.';
revoke all on function private.list_challenges(jsonb, integer, text) from
  public, anon, authenticated, service_role;
grant execute on function private.list_challenges(jsonb, integer, text) to speedcoding_api;
alter function private.list_challenges(jsonb, integer, text) owner to speedcoding_writer;
