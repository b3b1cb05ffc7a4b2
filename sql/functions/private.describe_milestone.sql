create or replace function private.describe_milestone(session uuid, milestone integer)
returns private.milestone_result
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select row(
      null, m.id, m.session_id, m.milestone_number, definition.title, m.passed, m.pending, m.completed_at,
      private.elapsed_ms(s.start_time, m.completed_at), m.attempts, m.next_attempt_at
    )::private.milestone_result
      from public.milestones as m
      join public.sessions as s on s.id = m.session_id
      left join public.challenge_milestones as definition
        on definition.challenge_id = s.challenge_id and definition.number = m.milestone_number
     where m.session_id = session
       and m.milestone_number = milestone
  );
end
$$;

comment on function private.describe_milestone(uuid, integer) is
  'A milestone of a session, as far as the caller may see it.';
revoke all on function private.describe_milestone(uuid, integer) from
  public, anon, authenticated, service_role;
alter function private.describe_milestone(uuid, integer) owner to speedcoding_writer;
