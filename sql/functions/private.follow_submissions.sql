create or replace function private.follow_submissions() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  runs private.run[];
begin
  case tg_op
    when 'INSERT' then
      select array_agg(row(n.id, n.challenge_id, n.user_id, n.tech_stack_key)::private.run)
        into runs
        from new_rows as n
       where n.status = 'APPROVED';
    when 'UPDATE' then
      select array_agg(row(o.id, o.challenge_id, o.user_id, board.tech_stack_key)::private.run)
        into runs
        from old_rows as o
        join new_rows as n on n.id = o.id
       cross join lateral (
         select o.tech_stack_key union select n.tech_stack_key
       ) as board
       where 'APPROVED' in (o.status, n.status)
         -- These are the columns that boards show.
         and (o.status, o.tech_stack, o.tech_stack_key, o.total_ms, o.end_time, o.packages, o.video_url, o.submitted_at)
           is distinct from
             (n.status, n.tech_stack, n.tech_stack_key, n.total_ms, n.end_time, n.packages, n.video_url, n.submitted_at);
    else
      select array_agg(row(o.id, o.challenge_id, o.user_id, o.tech_stack_key)::private.run)
        into runs
        from old_rows as o
       where o.status = 'APPROVED';
  end case;
  if runs is not null then
    perform private.settle_boards(runs);
  end if;
  return null;
end
$$;

comment on function private.follow_submissions() is 'Brings the boards up to date after a statement changed submissions.';
revoke all on function private.follow_submissions() from public, anon, authenticated, service_role;
alter function private.follow_submissions() owner to speedcoding_keeper;
