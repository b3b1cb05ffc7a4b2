-- What milestones are judged by: inputs with their answers, and what verifiers attest.

create table private.answer_variants (
  id uuid primary key default private.uuid_v7(),
  challenge_id uuid not null,
  milestone_number integer not null,
  input text not null constraint answer_variants_input_length check (length(input) between 1 and 1000000),
  -- Written, never kept: a trigger takes its digest.
  answer text constraint answer_variants_answer_digested check (answer is null),
  salt bytea not null,
  digest bytea not null,
  retired boolean not null default false,
  constraint answer_variants_milestone_fkey foreign key (challenge_id, milestone_number)
    references public.challenge_milestones (challenge_id, number) on update cascade on delete cascade
);
create index answer_variants_milestone on private.answer_variants (challenge_id, milestone_number);

comment on table private.answer_variants is
  'Inputs of milestones that are passed by an answer; each session is given one of them.';
comment on column private.answer_variants.id is 'UUIDv7.';
comment on column private.answer_variants.challenge_id is 'The challenge.';
comment on column private.answer_variants.milestone_number is 'Its milestone, one whose verification is answer.';
comment on column private.answer_variants.input is 'What the runner is shown once the milestone is next.';
comment on column private.answer_variants.answer is 'Write the right answer here: only its digest is kept, this stays empty.';
comment on column private.answer_variants.salt is 'What the digest is salted with; chosen when an answer is written.';
comment on column private.answer_variants.digest is 'SHA-256 of salt and answer.';
comment on column private.answer_variants.retired is 'Given to no further session; those that have it keep it.';

create table private.session_inputs (
  session_id uuid not null,
  milestone_number integer not null,
  user_id uuid not null,
  variant_id uuid not null references private.answer_variants (id),
  primary key (session_id, milestone_number),
  constraint session_inputs_session_fkey foreign key (user_id, session_id)
    references public.sessions (user_id, id) on delete cascade
);
create index session_inputs_user_id_session_id on private.session_inputs (user_id, session_id);
create index session_inputs_variant_id on private.session_inputs (variant_id);

comment on table private.session_inputs is 'Which input a session has for which milestone: chosen when it is first needed, and kept.';
comment on column private.session_inputs.session_id is 'The session.';
comment on column private.session_inputs.milestone_number is 'The milestone of its challenge.';
comment on column private.session_inputs.user_id is 'The session''s runner.';
comment on column private.session_inputs.variant_id is 'The input, and what answers it.';

create table private.attestations (
  id uuid primary key default private.uuid_v7(),
  session_id uuid not null,
  user_id uuid not null,
  milestone_number integer not null,
  verdict text not null constraint attestations_verdict_known check (verdict in ('pass', 'fail', 'error')),
  evidence text constraint attestations_evidence_length check (length(evidence) <= 10000),
  checker_version text constraint attestations_checker_version_length check (length(checker_version) <= 100),
  attested_by uuid references public.users (id) on delete set null,
  attested_at timestamptz not null default private.clock(),
  constraint attestations_session_fkey foreign key (user_id, session_id)
    references public.sessions (user_id, id) on delete cascade
);
create index attestations_user_id_session_id on private.attestations (user_id, session_id, milestone_number);
create index attestations_attested_by on private.attestations (attested_by);

comment on table private.attestations is 'What verifiers found. Runners see what follows from it, not the evidence.';
comment on column private.attestations.id is 'UUIDv7: in the order of time.';
comment on column private.attestations.session_id is 'The session.';
comment on column private.attestations.user_id is 'The session''s runner.';
comment on column private.attestations.milestone_number is 'The milestone that was judged.';
comment on column private.attestations.verdict is 'pass; fail: counts as an attempt; error: could not be judged, costs the runner nothing.';
comment on column private.attestations.evidence is 'What the verdict rests on: a log, a link.';
comment on column private.attestations.checker_version is 'Which version of a checker found it.';
comment on column private.attestations.attested_by is 'The verifier.';
comment on column private.attestations.attested_at is 'The server''s time of the verdict.';

revoke all on private.answer_variants, private.session_inputs, private.attestations from
  public, anon, authenticated, service_role;
alter table private.answer_variants enable row level security;
alter table private.session_inputs enable row level security;
alter table private.attestations enable row level security;
-- Two functions of the keeper give inputs and compare answers, for the session of whoever calls; the domain functions
-- themselves see neither.
create policy answer_variants_keep on private.answer_variants for select to speedcoding_keeper using (true);
grant select on private.answer_variants to speedcoding_keeper;
create policy session_inputs_keep on private.session_inputs for select to speedcoding_keeper using (true);
create policy session_inputs_give on private.session_inputs for insert to speedcoding_keeper with check (true);
grant select, insert on private.session_inputs to speedcoding_keeper;
grant select (user_id, challenge_id) on public.sessions to speedcoding_keeper;
-- Verifiers attest in their own name, and never for themselves.
create policy attestations_read on private.attestations for select to speedcoding_writer
  using ((select private.caller_role()) in ('verifier', 'admin'));
create policy attestations_attest on private.attestations for insert to speedcoding_writer
  with check (
    attested_by = (select private.caller_id())
    and attested_by <> user_id
    and (select private.caller_role()) in ('verifier', 'admin')
  );
grant select, insert (session_id, user_id, milestone_number, verdict, evidence, checker_version, attested_by)
  on private.attestations to speedcoding_writer;

-- Handing a function over needs a new owner that may create in the schema: for the length of this migration.
grant create on schema private to speedcoding_writer, speedcoding_keeper;

create or replace function private.digest_answer() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.answer is not null then
    new.salt := uuid_send(gen_random_uuid());
    new.digest := private.answer_digest(new.salt, new.answer);
    new.answer := null;
  end if;
  return new;
end
$$;

comment on function private.digest_answer() is 'Keeps of an answer that is written its salted digest only.';
revoke all on function private.digest_answer() from public, anon, authenticated, service_role;
alter function private.digest_answer() owner to speedcoding_keeper;

create or replace function private.read_input(session uuid, milestone integer) returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  given text;
begin
  for turn in 1..2 loop
    select v.input
      into given
      from private.session_inputs as g
      join private.answer_variants as v on v.id = g.variant_id
     where g.session_id = session
       and g.milestone_number = milestone
       and g.user_id = private.caller_id();
    exit when found;
    insert into private.session_inputs (session_id, milestone_number, user_id, variant_id)
    select s.id, milestone, s.user_id, v.id
      from public.sessions as s
      join private.answer_variants as v on v.challenge_id = s.challenge_id and v.milestone_number = milestone
     where s.id = session
       and s.user_id = private.caller_id()
       and not v.retired
     order by random()
     limit 1
        on conflict do nothing;
  end loop;
  if given is null then
    perform private.refuse(404, 'input_not_found', 'This milestone has no input.');
  end if;
  return given;
end
$$;

comment on function private.read_input(uuid, integer) is
  'The input that the caller''s session has for a milestone; one is chosen where it has none yet.';
revoke all on function private.read_input(uuid, integer) from public, anon, authenticated, service_role;
grant execute on function private.read_input(uuid, integer) to speedcoding_writer;
alter function private.read_input(uuid, integer) owner to speedcoding_keeper;

create or replace function private.is_answer(session uuid, milestone integer, answer text) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Somebody may answer without having looked.
  perform private.read_input(session, milestone);
  return exists (
    select from private.session_inputs as g
      join private.answer_variants as v on v.id = g.variant_id
     where g.session_id = session
       and g.milestone_number = milestone
       and g.user_id = private.caller_id()
       and v.digest = private.answer_digest(v.salt, is_answer.answer)
  );
end
$$;

comment on function private.is_answer(uuid, integer, text) is 'Whether this answers the input that the caller''s session has for a milestone.';
revoke all on function private.is_answer(uuid, integer, text) from public, anon, authenticated, service_role;
grant execute on function private.is_answer(uuid, integer, text) to speedcoding_writer;
alter function private.is_answer(uuid, integer, text) owner to speedcoding_keeper;

create or replace function private.get_milestone_input(
  caller jsonb, session_id uuid, milestone_number integer, out refusal jsonb, out input text
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  runner uuid := private.enter(caller);
  session record;
begin
  select s.id, s.challenge_id, s.status, s.deadline, c.ordered
    into session
    from public.sessions as s
    join public.challenges as c on c.id = s.challenge_id
   where s.id = get_milestone_input.session_id
     and s.user_id = runner;
  if not found then
    perform private.refuse(404, 'session_not_found', 'You have no such session.');
  end if;
  refusal := private.find_over(session.id, session.status, session.deadline, private.clock());
  if refusal is not null then
    return;
  end if;
  -- Nobody looks ahead: neither in a run that will be abandoned for it, nor past a milestone.
  if session.ordered then
    perform private.demand_turn(session.id, session.challenge_id, get_milestone_input.milestone_number);
  end if;
  input := private.read_input(session.id, get_milestone_input.milestone_number);
end
$$;

comment on function private.get_milestone_input(jsonb, uuid, integer) is
  'The caller''s own input for a milestone that is next, or passed, in a running session.';
revoke all on function private.get_milestone_input(jsonb, uuid, integer) from public, anon, authenticated, service_role;
grant execute on function private.get_milestone_input(jsonb, uuid, integer) to speedcoding_api;
alter function private.get_milestone_input(jsonb, uuid, integer) owner to speedcoding_writer;

-- The session must still run: what is attested after its end would change a result that is handed in. The split is
-- the moment when the runner asked, so that how long a verifier takes costs no split.
create or replace function private.attest_milestone(
  caller jsonb, session_id uuid, milestone_number integer, verdict text,
  evidence text default null, checker_version text default null
) returns private.milestone_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  verifier uuid := private.enter(caller);
  session record;
  tried record;
  judged_at timestamptz;
  over jsonb;
begin
  select s.id, s.user_id, s.challenge_id, s.status, s.deadline
    into session
    from public.sessions as s
   where s.id = attest_milestone.session_id
     for no key update;
  -- Asked after the lock: a demotion that came first counts.
  perform private.demand_role('verifier');
  if session.id is null then
    perform private.refuse(404, 'session_not_found', 'There is no such session.');
  end if;
  if session.user_id = verifier then
    perform private.refuse(403, 'own_run', 'Nobody judges their own run.');
  end if;
  perform private.demand_milestone(session.challenge_id, attest_milestone.milestone_number);

  select m.id, m.passed, m.pending, m.requested_at, m.attempts
    into tried
    from public.milestones as m
   where m.session_id = session.id
     and m.milestone_number = attest_milestone.milestone_number;
  -- A retry answers as the first time.
  if tried.passed and attest_milestone.verdict = 'pass'
    or not tried.passed and not tried.pending and attest_milestone.verdict = 'fail' and (
      select a.verdict = 'fail' and a.attested_by = verifier
        from private.attestations as a
       where a.user_id = session.user_id
         and a.session_id = session.id
         and a.milestone_number = attest_milestone.milestone_number
       order by a.id desc
       limit 1
    )
  then
    return private.describe_milestone(session.id, attest_milestone.milestone_number);
  end if;

  if tried.passed then
    perform private.refuse(409, 'milestone_passed', 'This milestone is passed, and stays passed.');
  end if;
  judged_at := private.clock();
  over := private.find_over(session.id, session.status, session.deadline, judged_at);
  if over is not null then
    return jsonb_populate_record(null::private.milestone_result, jsonb_build_object('refusal', over));
  end if;
  if tried.pending is not true then
    perform private.refuse(409, 'milestone_not_pending', 'Nobody waits for a verdict on this milestone.');
  end if;

  insert into private.attestations
    (session_id, user_id, milestone_number, verdict, evidence, checker_version, attested_by)
  values (session.id, session.user_id, attest_milestone.milestone_number, attest_milestone.verdict,
          attest_milestone.evidence, attest_milestone.checker_version, verifier);
  insert into private.audit_log (action, user_id, subject_id, details)
  values ('milestone.attested', session.user_id, session.id, jsonb_build_object(
    'milestoneNumber', attest_milestone.milestone_number, 'verdict', attest_milestone.verdict));
  -- An error was not the runner's: the milestone waits on, for the next verdict.
  if attest_milestone.verdict <> 'error' then
    update public.milestones
       set passed = attest_milestone.verdict = 'pass',
           pending = false,
           completed_at = case when attest_milestone.verdict = 'pass' then tried.requested_at end,
           attempts = tried.attempts + 1,
           next_attempt_at = case
             when attest_milestone.verdict = 'fail' then judged_at + private.attempt_cooldown(tried.attempts + 1)
           end
     where id = tried.id;
    if not found then
      raise exception 'milestone % could not be judged', tried.id;
    end if;
  end if;
  return private.describe_milestone(session.id, attest_milestone.milestone_number);
end
$$;

comment on function private.attest_milestone(jsonb, uuid, integer, text, text, text) is
  'A verifier''s verdict on a milestone that waits for one; again, it answers as the first time.';
revoke all on function private.attest_milestone(jsonb, uuid, integer, text, text, text) from
  public, anon, authenticated, service_role;
grant execute on function private.attest_milestone(jsonb, uuid, integer, text, text, text) to speedcoding_api;
alter function private.attest_milestone(jsonb, uuid, integer, text, text, text) owner to speedcoding_writer;

revoke create on schema private from speedcoding_writer, speedcoding_keeper;

create trigger answer_variants_digest before insert or update on private.answer_variants
  for each row execute function private.digest_answer();
