-- The policies apply with the caller's claims, so rows that the caller may not see are missing.
create or replace function private.describe_session(session uuid, refusal jsonb default null)
returns private.session_result
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select row(
      refusal, s.id, s.user_id, challenge.slug, s.tech_stack, s.status::text, s.start_time, s.end_time,
      s.deadline, s.total_ms, s.total_time,
      coalesce((
        select jsonb_agg(jsonb_build_object(
                 'id', m.id,
                 'sessionId', m.session_id,
                 'milestoneNumber', m.milestone_number,
                 'title', definition.title,
                 'passed', m.passed,
                 -- In a session that ended in another way, no verifier will judge any more.
                 'pending', m.pending and s.status in ('running', 'judging'),
                 'completedAt', m.completed_at,
                 'splitMs', private.elapsed_ms(s.start_time, m.completed_at),
                 'attempts', m.attempts,
                 'nextAttemptAt', m.next_attempt_at
               ) order by m.milestone_number)
          from public.milestones as m
          left join public.challenge_milestones as definition
            on definition.challenge_id = s.challenge_id and definition.number = m.milestone_number
         where m.session_id = s.id
      ), '[]'),
      (
        select private.describe_submission(handed_in)
          from public.submissions as handed_in
         where handed_in.session_id = s.id
      ),
      private.clock(),
      -- Only the runner sees these.
      coalesce((
        select e.warnings
          from private.session_ends as e
         where e.user_id = s.user_id
           and e.session_id = s.id
      ), '[]'),
      s.clock_went_back_ms
    )::private.session_result
      from public.live_sessions as s
      join public.challenges as challenge on challenge.id = s.challenge_id
     where s.id = session
  );
end
$$;

comment on function private.describe_session(uuid, jsonb) is
  'A session with its milestones and submission, as far as the caller may see it.';
revoke all on function private.describe_session(uuid, jsonb) from public, anon, authenticated, service_role;
alter function private.describe_session(uuid, jsonb) owner to speedcoding_writer;
