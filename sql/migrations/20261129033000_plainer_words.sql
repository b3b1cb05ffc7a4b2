-- Says in plainer words what tables, columns, types and functions are for: the dashboard and PostgREST show these
-- comments. The functions at the end differ only in comments within their bodies.

comment on table public.users is 'Accounts. Everybody may read this table.';
comment on column public.users.username is
  '3 to 32 characters of A-Z a-z 0-9 _ -. Two names may not differ in case alone.';
comment on column public.users.role is 'What the user may do. A change counts from the next request on.';
comment on column public.users.erased_at is
  'When the account was erased. Its approved runs stay, under an anonymous name. Null: it is not erased.';

comment on table public.challenges is 'What runners build against the clock.';
comment on column public.challenges.slug is
  'The name in URLs, such as slack-clone. It cannot change once a session has used the challenge.';
comment on column public.challenges.title is 'The name for people.';
comment on column public.challenges.description is 'What runners build, in Markdown.';
comment on column public.challenges.required_milestones is 'How many milestones a session must pass to be completed.';
comment on column public.challenges.ordered is 'Whether a milestone can be passed only after all milestones before it.';
comment on column public.challenges.max_duration is
  'A session that runs longer expires. A day has 24 hours, and months are refused.';
comment on column public.challenges.active is 'Whether new sessions may start. The public sees only active challenges.';
comment on column public.challenge_milestones.challenge_id is 'The challenge.';
comment on column public.challenge_milestones.number is 'The number of the milestone, from 1.';
comment on column public.challenge_milestones.title is 'What the runner has built when the milestone is passed.';
comment on column public.challenge_milestones.description is 'How to tell that the milestone is passed, in Markdown.';
comment on column public.challenge_milestones.verification is 'How the milestone is judged.';

comment on table public.sessions is
  'Timed attempts at a challenge. A running session past its deadline is over: the view live_sessions shows that.';
comment on column public.sessions.challenge_id is 'The challenge.';
comment on column public.sessions.tech_stack is 'The tech stack in the runner''s words.';
comment on column public.sessions.tech_stack_key is
  'The key of the tech stack''s board: its names in one spelling, sorted, without duplicates. It is computed from tech_stack and replaces any other value.';
comment on column public.sessions.start_time is 'When the session started, by the server''s clock.';
comment on column public.sessions.end_time is 'When the session ended, by the server''s clock. Null while it runs.';
comment on column public.sessions.deadline is 'When the session expires.';
comment on column public.sessions.status is 'Whether the session runs, or how it ended.';
comment on column public.sessions.total_ms is 'Milliseconds from start to end. Boards rank by this.';
comment on column public.sessions.total_time is 'The time of the run for people, such as 45m 12s.';
comment on column public.sessions.published is 'Whether everyone sees the session, because its submission is approved.';
comment on column public.sessions.clock_went_back_ms is
  'How far the server''s clock was found behind a time that this session had recorded, in milliseconds. The total time is too short by at least as much. Null: that never happened.';
comment on column public.live_sessions.end_time is 'As in sessions. If the deadline has passed, the deadline.';
comment on column public.live_sessions.status is 'As in sessions. If the deadline has passed, expired.';
comment on column public.live_sessions.total_ms is 'Milliseconds from start to end. Null while the session runs.';
comment on column public.live_sessions.total_time is 'The time of the run for people, such as 45m 12s.';

comment on table public.milestones is 'The milestones that a session passed or tried.';
comment on column public.milestones.milestone_number is 'The number of the milestone in its challenge.';
comment on column public.milestones.passed is 'Whether the milestone is passed. Passed milestones stay passed.';
comment on column public.milestones.pending is 'Whether the milestone waits for a verifier.';
comment on column public.milestones.completed_at is
  'When the milestone was passed, by the server''s clock. This makes the split.';
comment on column public.milestones.requested_at is
  'When the runner last asked for a verifier. It becomes completed_at if the verifier passes the milestone.';
comment on column public.milestones.next_attempt_at is 'Attempts before this time are refused and not judged.';
comment on column public.milestones.published is 'Whether everyone sees the milestone, as its session.';

comment on table public.submissions is 'What runners hand in after a completed session, and how moderators decided.';
comment on column public.submissions.session_id is 'The completed session. It has one submission.';
comment on column public.submissions.total_time is 'The time of the run for people, such as 45m 12s.';
comment on column public.submissions.packages is
  'The packages that were used: at most 200 names of 1 to 214 characters.';
comment on column public.submissions.video_url is 'The recording, an https URL. A run without one cannot be approved.';
comment on column public.submissions.submitted_at is
  'When the run was handed in. A run that is handed in again after a rejection gets a new time.';
comment on column public.submissions.status is
  'A PENDING submission can become APPROVED or REJECTED. Both can become PENDING again.';
comment on column public.submissions.revision is
  'Counts the changes of packages and video, and the returns to PENDING. A review names the revision that the moderator saw.';
comment on column public.submissions.claimed_by is 'The moderator who has claimed the submission, while it is PENDING.';
comment on column public.submissions.claimed_at is 'When claimed_by claimed it. A claim lasts 30 minutes.';
comment on column public.submissions.reviewed_by is
  'The moderator who decided, never the runner. It is null once the run is public; private.reviews and the audit log keep it.';
comment on column public.submissions.reviewed_at is 'When it was decided. A trigger sets this.';
comment on column public.submissions.review_reason is
  'Why it was rejected or reopened. It is null once the run is public; private.reviews keeps it.';
comment on column public.submissions.video_key is
  'The video that the URL names, such as "youtube dQw4w9WgXcQ". All addresses of one video have the same key.';

comment on view public.board_entries is
  'Boards: the best run of each runner. A board is one challenge_id with one tech_stack_key. Order by total_ms, end_time, submission_id.';
comment on table public.personal_bests is
  'The best run of each runner on each board. Triggers keep it up to date. Order by total_ms, end_time, submission_id.';
comment on column public.board_entries.tech_stack_key is
  'The tech stack of the board, as in sessions. Empty: the board of all runs.';
comment on column public.board_entries.total_ms is
  'The time of the run in milliseconds, by which it is ranked. Equal times share a rank.';
comment on column public.board_entries.end_time is
  'When the run ended. Of equal times, the earlier run is listed first.';
comment on column public.personal_bests.tech_stack_key is
  'The tech stack of the board, as in sessions. Empty: the board of all runs.';
comment on column public.personal_bests.total_ms is
  'The time of the run in milliseconds, by which it is ranked. Equal times share a rank.';
comment on column public.personal_bests.end_time is
  'When the run ended. Of equal times, the earlier run is listed first.';
comment on column public.board_entries.total_time is 'The time of the run for people, such as 45m 12s.';
comment on column public.board_entries.tech_stack is 'The tech stack in the runner''s words.';

comment on view public.review_queue is
  'Submissions that wait for a review, the oldest first. To decide about one, edit its row in submissions.';
comment on column public.review_queue.waiting is 'How long the submission has waited.';
comment on column public.review_queue.challenge is
  'The slug of the challenge. Empty if the challenge is not active any more.';
comment on column public.review_queue.tech_stack is 'The tech stack in the runner''s words.';
comment on column public.review_queue.total_time is 'The time of the run for people, such as 45m 12s.';
comment on column public.review_queue.video_url is 'The recording. A run without one cannot be approved.';
comment on column public.review_queue.claimed_by is 'The name of the moderator who has claimed it.';
comment on column public.review_queue.claim_expires_at is
  'When that claim ends. After that, any moderator may claim it.';
comment on column public.review_queue.clock_went_back_ms is
  'The server''s clock went back during the run, by this many milliseconds or more, so the time of the run is too short. Null: it did not.';

comment on table public.tech_stack_synonyms is
  'Spellings of names in tech stacks, and the name that each stands for. A change moves runs to the right boards.';
comment on column public.tech_stack_synonyms.spelling is
  'A spelling that runners use, such as nodejs. Upper and lower case are the same. A spelling with a separator in it, such as pl/sql, is not split.';
comment on column public.tech_stack_synonyms.name is
  'The name that the spelling stands for, such as node.js. It is the spelling itself if that only must not be split.';

comment on table private.answer_variants is
  'Inputs of milestones that are passed by an answer. Each session gets one of them.';
comment on column private.answer_variants.milestone_number is 'The milestone. Its verification is answer.';
comment on column private.answer_variants.input is 'What the runner gets to see once the milestone is next.';
comment on column private.answer_variants.answer is
  'Write the right answer here. Only its digest is kept, and this stays null.';
comment on column private.answer_variants.salt is 'The salt of the digest. It is chosen when an answer is written.';
comment on column private.answer_variants.retired is
  'Whether new sessions no longer get this input. Sessions that have it keep it.';

comment on table private.attestations is 'The verdicts of verifiers. Runners see the outcome, but not the evidence.';
comment on column private.attestations.id is 'UUIDv7, in the order of time.';
comment on column private.attestations.verdict is
  'pass; fail, which counts as an attempt; error, when the milestone could not be judged and the runner loses no attempt.';
comment on column private.attestations.evidence is 'What supports the verdict, such as a log or a link.';
comment on column private.attestations.checker_version is 'The version of the program that checked the milestone.';
comment on column private.attestations.attested_at is 'When the verdict came, by the server''s clock.';

comment on table private.audit_log is
  'What happened. Rows can only be added. It holds no names and no addresses, so that an account can be erased.';
comment on column private.audit_log.id is 'UUIDv7, in the order of time.';
comment on column private.audit_log.happened_at is 'When it happened, by the server''s clock.';
comment on column private.audit_log.action is
  'What happened, as subject.verb, such as submission.approved or sign_in.revoked.';
comment on column private.audit_log.actor_id is 'The user who did it. Null if no user made the request.';
comment on column private.audit_log.details is 'Further facts, such as the cause.';

comment on table private.boards is
  'The boards that have had approved runs. The row of the board of all runs is the lock of all boards of its challenge.';
comment on column private.boards.tech_stack_key is 'The tech stack. Empty: the board of all runs.';
comment on column private.boards.version is
  'Changes whenever something changes that the board shows. It is the board''s ETag.';
comment on column private.boards.entries is 'How many runners are on the board.';

comment on view private.counted_runs is 'The runs that count for boards: approved runs of runners who are not banned.';
comment on table private.credentials is 'Password hashes. Only the service reads them.';
comment on column private.credentials.user_id is 'The user.';
comment on column private.credentials.password_hash is
  'Algorithm, parameters, salt and hash: a PHC string, or the bcrypt hash of an imported user.';
comment on column private.credentials.updated_at is 'When the hash was set or renewed.';
comment on column private.credentials.sign_in_epoch is
  'Goes up when all sign-ins of the account end, or all but one. Sign-ins of an earlier epoch are over.';

comment on table private.failed_logins is
  'Wrong passwords of the last hour, by account and network. It holds names and addresses only as digests.';
comment on column private.failed_logins.account is
  'HMAC-SHA-256 of the user name, with a key that only the service has. There need not be such an account.';
comment on column private.failed_logins.network is 'HMAC-SHA-256 of the user name and the network, with the same key.';
comment on column private.failed_logins.failures is 'How many wrong passwords came since the last right one.';
comment on column private.failed_logins.blocked_until is 'Passwords before this time are refused and not compared.';
comment on column private.failed_logins.forgotten_at is 'From this time on the row does not count and may be deleted.';

comment on table private.rank_buckets is
  'How many personal bests have the same total_ms >> level, for the levels 20, 15, 10 and 6. A rank is the sum of a few rows.';
comment on column private.rank_buckets.level is 'A bucket is as wide as 2 to the power of this, in milliseconds.';
comment on column private.rank_buckets.bucket is 'total_ms >> level.';
comment on column private.rank_buckets.entries is
  'How many personal bests are in the bucket. An empty bucket has no row.';

comment on table private.records is
  'The records of each board: runs that count and were, when they ended, better than all runs that had ended before.';
comment on column private.records.total_ms is
  'The time of the run in milliseconds, less than that of the record before.';
comment on column private.records.end_time is 'When the run ended.';

comment on table private.refresh_tokens is
  'Sign-ins. Each is one device with its refresh tokens, one after another. No token is stored.';
comment on column private.refresh_tokens.id is 'A random UUID, because it is part of every token of this sign-in.';
comment on column private.refresh_tokens.user_id is 'The user who signed in.';
comment on column private.refresh_tokens.generation is 'The number of the current token. The first is 1.';
comment on column private.refresh_tokens.nonce_digest is
  'SHA-256 of the secret in the tokens. Nobody can make a token from this row.';
comment on column private.refresh_tokens.key_id is 'The key of REFRESH_SECRETS that signs the tokens.';
comment on column private.refresh_tokens.rotated_at is 'When the current token was first given out by a refresh.';
comment on column private.refresh_tokens.idle_expires_at is
  'The sign-in ends at this time unless it is refreshed before.';
comment on column private.refresh_tokens.expires_at is 'The sign-in ends at this time in any case.';
comment on column private.refresh_tokens.revoked_at is 'When the sign-in was ended. Null: nobody ended it.';
comment on column private.refresh_tokens.revoked_reason is
  'Why it was ended: logout; signed_out, from another device; password_changed; reuse or rollback of a token; too_many sign-ins; outdated, when its epoch was over and the sweep found it later.';
comment on column private.refresh_tokens.user_agent is 'What the device called itself when it signed in.';
comment on column private.refresh_tokens.ip is 'The address from which the device signed in.';
comment on column private.refresh_tokens.live_until is 'The sign-in is alive until this time. Null: it was ended.';
comment on column private.refresh_tokens.epoch is
  'The epoch of the account in which the sign-in was opened or kept. It is over in a later epoch.';
comment on column private.refresh_tokens.earlier_rotations is
  'When the tokens before the current one were first given out, the latest first; at most seven.';
comment on column private.refresh_tokens.forgiven_generation is
  'The number of the last token whose answer was taken for lost, so that it was answered once more.';

comment on table private.reviews is 'Every decision of a moderator, with the reason. A trigger writes them.';
comment on column private.reviews.id is 'UUIDv7, in the order of time.';
comment on column private.reviews.submission_id is 'The submission.';
comment on column private.reviews.user_id is 'Its runner, who may read the reason.';
comment on column private.reviews.revision is 'The revision that was decided on. For REOPENED, the new revision.';
comment on column private.reviews.decision is 'APPROVED, REJECTED, or REOPENED, which means back to PENDING.';
comment on column private.reviews.reviewed_by is 'The moderator. Null if nobody knows.';
comment on column private.reviews.reviewed_at is 'When it was decided, by the server''s clock.';

comment on table private.session_ends is 'What the runner sent with the end of each session.';
comment on column private.session_ends.digest is
  'SHA-256 of what the runner sent. It tells a retry from a different end.';
comment on column private.session_ends.packages is
  'The packages to hand in when the session is completed. Null after that.';
comment on column private.session_ends.video_url is
  'The video to hand in when the session is completed. Null after that.';
comment on column private.session_ends.warnings is
  'The parts that were left out, and why: a list of {field, code, message}.';

comment on table private.session_inputs is
  'Which input a session has for a milestone. It is chosen when it is first needed, and stays.';
comment on column private.session_inputs.variant_id is 'The input and its answer.';

comment on sequence private.board_versions is 'Numbers the states of all boards. No two states have the same number.';
comment on type public.user_role is 'What a user may do. An admin may do all that the others may.';
comment on type public.milestone_verification is
  'manual: the runner decides. answer: the runner sends an answer, which is compared with the right one. verifier: a verifier decides.';
comment on type public.session_status is
  'running. judging: ended while a verdict was pending. completed: ended with enough milestones. incomplete: ended with too few. abandoned: given up by the runner. expired: past its deadline.';
comment on type public.submission_status is 'How moderators decided.';
comment on schema speedcoding is
  'The function that PostgREST calls before each request. Do not expose this schema: clients need nothing in it.';
comment on schema private is
  'Credentials, sign-ins, rules. This schema is never exposed: clients reach it only through the SpeedCoding API.';

comment on function private.abandon_session(jsonb, uuid) is 'Gives up the caller''s running session.';
comment on function private.admit(jsonb) is
  'Refuses a caller whose sign-in has ended or who is banned. The service calls it when PostgREST has not checked the caller.';
comment on function private.bound_sign_ins(uuid) is
  'Ends the oldest living sign-ins of an account, so that there are a hundred with the next one. Returns how many it ended.';
comment on function private.caller_role() is 'The caller''s present role. Null if nobody is signed in, or the caller is banned.';
comment on function private.claim_expiry(public.submissions, timestamptz) is
  'The time until which a moderator has a submission: 30 minutes after the claim. Null if nobody has it at the given time.';
comment on function private.demand_editable(uuid, text, boolean) is
  'Refuses a change to a challenge for the reasons in `fixed`, and any change of its rules while sessions are running.';
comment on function private.demand_milestone(uuid, integer) is
  'How a milestone of a challenge is verified. Refuses a number that the challenge does not have.';
comment on function private.demand_revision(public.submissions, integer) is 'Refuses a request that was made for another revision.';
comment on function private.demand_turn(uuid, uuid, integer) is
  'Refuses a milestone before its turn. Called for challenges whose milestones have an order.';
comment on function private.describe_submission(public.submissions) is
  'A submission, with the reason of its last review if the caller may see it. Moderators also see where else the same video was handed in.';
comment on function private.empty_boards() is 'Empties the boards after a TRUNCATE.';
comment on function private.end_sign_ins(uuid, uuid, text) is
  'Ends all living sign-ins of an account but the kept one. Returns how many it marked as ended.';
comment on function private.enter(jsonb, boolean) is
  'Makes the verified claims the caller of this transaction and returns the user''s id. Refuses a caller whose sign-in has ended or who is banned.';
comment on function private.find_over(uuid, public.session_status, timestamptz, timestamptz) is
  'The refusal for a session in which no milestone can be passed any more. Null while it runs. Stores that a session has expired.';
comment on function private.fold_stack(text) is 'A tech stack, or a name in one, with the differences of spelling removed: case, width, white space.';
comment on function private.follow_synonyms() is 'Brings the sessions'' keys, and with them the boards, up to date after a change of synonyms.';
comment on function private.follow_users() is 'Brings the boards up to date after changes of names.';
comment on function private.guard_submission() is 'Refuses changes to a submission that neither runners nor moderators may make. Sets its dates and its revision.';
comment on function private.guard_synonym() is 'Spells a synonym as tech stacks are compared, and refuses a synonym of a synonym.';
comment on function private.hand_in_session() is 'Makes the submission of a session that was completed, from what its end brought.';
comment on function private.key_session() is 'Sets the key of a session''s tech stack, and replaces any other value.';
comment on function private.last_time(uuid) is
  'The latest time that a session has recorded: its start, a split, or a request for a verdict. Later times must not be earlier than this.';
comment on function private.list_sessions(jsonb, integer, uuid) is
  'The caller''s own sessions, the newest first, from those before an id on.';
comment on function private.list_sign_ins(jsonb, integer, uuid) is
  'The caller''s living sign-ins, the newest first, from those before a given one on.';
comment on function private.login_delay(bytea, bytea) is
  'The refusal while this network has to wait before it tries this account''s password again. Null if it need not wait.';
comment on function private.may_upload_recording(text) is
  'Whether a path lies in the folder of one of the caller''s sessions, and that session is running or judging, or its submission can still be changed.';
comment on function private.pass_login(bytea, bytea) is
  'Deletes the count of wrong passwords after a right one. Returns the refusal if there were too many.';
comment on function private.publish_session() is
  'Makes a run visible to everyone while its submission is approved.';
comment on function private.refusal(integer, text, text, jsonb) is
  'The same as private.refuse(), but returned instead of raised, so that the transaction keeps its changes.';
comment on function private.refuse_verification(text) is
  'Refuses a milestone whose kind of verification the calling rule does not know. Each rule that decides by the kind ends with this call.';
comment on function private.release_submission(jsonb, uuid) is 'A moderator gives back a submission that they claimed.';
comment on function private.reopen_submission(jsonb, uuid, text) is 'A moderator sets a decided submission back to PENDING. Its run leaves the boards.';
comment on function private.update_submission(jsonb, uuid, integer, text[], text, boolean) is
  'Changes the caller''s own submission, unless it is approved. A rejected one is handed in again.';
comment on function private.video_fault(text, uuid, uuid) is
  'Why a runner cannot hand in a video for a session, as a member of `errors` or `warnings`. Null if they can.';

-- A function is given only to an owner that may create in its schema: for the length of this migration.
grant create on schema private to speedcoding_keeper;
grant create on schema private to speedcoding_writer;
grant create on schema speedcoding to speedcoding_writer;

create or replace function private.audit_sign_in() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into private.audit_log (action, actor_id, user_id, subject_id, details)
  values (
    'sign_in.revoked',
    -- A logout has a refresh token and a login has a password. Neither has claims.
    case when new.revoked_reason in ('logout', 'too_many') then new.user_id else private.caller_id() end,
    new.user_id, new.id, jsonb_build_object('cause', new.revoked_reason)
  );
  return null;
end
$$;

comment on function private.audit_sign_in() is 'Writes into the audit log that a sign-in was ended, and why.';
revoke all on function private.audit_sign_in() from public, anon, authenticated, service_role;
alter function private.audit_sign_in() owner to speedcoding_keeper;

create or replace function private.change_password(
  caller jsonb, old_hash text, new_hash text, out ended bigint
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := private.enter(caller);
begin
  update private.credentials
     set password_hash = new_hash, updated_at = private.clock()
   where user_id = me
     and password_hash = old_hash;
  -- The hash was changed after the service compared it, so the service has to compare again.
  if not found then
    return;
  end if;
  ended := private.end_sign_ins(me, (caller ->> 'session_id')::uuid, 'password_changed');
  insert into private.audit_log (action, actor_id, user_id)
  values ('user.password_changed', me, me);
end
$$;

comment on function private.change_password(jsonb, text, text) is
  'Replaces the caller''s password hash and ends the caller''s other sign-ins. Returns how many it ended, or null if the stored hash is not the old one.';
revoke all on function private.change_password(jsonb, text, text) from public, anon, authenticated, service_role;
grant execute on function private.change_password(jsonb, text, text) to speedcoding_api;
alter function private.change_password(jsonb, text, text) owner to speedcoding_writer;

create or replace function private.delete_me(
  caller jsonb, old_hash text default null, account_digest bytea default null, out erased boolean
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := (caller ->> 'sub')::uuid;
begin
  -- start_session() takes the same lock, so a start by this user comes either before or after this.
  perform pg_advisory_xact_lock(hashtextextended(me::text, 0));
  if not exists (select from public.users where id = me and erased_at is null) then
    erased := false;
    return;
  end if;
  perform private.enter(caller);

  -- A login takes this lock first, too. A replica of an older version sends no hash.
  delete from private.credentials where user_id = me and password_hash = coalesce(old_hash, password_hash);
  -- The hash was changed after the service compared it, so the service has to compare again.
  if not found then
    return;
  end if;
  perform from private.refresh_tokens where user_id = me order by id for update;
  delete from private.refresh_tokens where user_id = me;
  -- Other moderators may claim what this one had claimed.
  update public.submissions set claimed_by = null where claimed_by = me and status = 'PENDING';
  -- In the order of a review: the submission, then the session.
  delete from public.submissions where user_id = me and status <> 'APPROVED';
  delete from public.sessions where user_id = me and not published;
  -- Rows that are being changed at this moment expire by themselves later. Nothing waits for them.
  delete from private.failed_logins
   where (account, network) in (
     select account, network from private.failed_logins where account = account_digest for update skip locked
   );

  insert into private.audit_log (action, actor_id, user_id)
  values ('user.erased', me, me);
  -- Approved runs keep their places on the boards, under an anonymous name.
  if exists (select from public.sessions where user_id = me) then
    update public.users
       set username = 'erased-' || left(replace(gen_random_uuid()::text, '-', ''), 12),
           role = 'runner', erased_at = private.clock()
     where id = me;
  else
    delete from public.users where id = me;
  end if;
  erased := true;
end
$$;

comment on function private.delete_me(jsonb, text, bytea) is
  'Erases the caller''s account. Approved runs stay, under an anonymous name. Returns false if it was erased before, and null if the stored hash is not the given one.';
revoke all on function private.delete_me(jsonb, text, bytea) from public, anon, authenticated, service_role;
grant execute on function private.delete_me(jsonb, text, bytea) to speedcoding_api;
alter function private.delete_me(jsonb, text, bytea) owner to speedcoding_writer;

create or replace function private.end_sign_in(caller jsonb, sign_in uuid, out ended boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := private.enter(caller);
begin
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = 'signed_out'
   where id = sign_in
     and user_id = me
     and revoked_at is null
     and epoch >= (select sign_in_epoch from private.credentials where user_id = me);
  ended := found;
  -- A repeated call answers as the first time.
  if not ended and not exists (select from private.refresh_tokens where id = sign_in and user_id = me) then
    perform private.refuse(404, 'sign_in_not_found', 'There is no such sign-in of yours: GET /auth/sign-ins lists them.');
  end if;
end
$$;

comment on function private.end_sign_in(jsonb, uuid) is
  'Ends one of the caller''s sign-ins. Returns whether it was alive until this call.';
revoke all on function private.end_sign_in(jsonb, uuid) from public, anon, authenticated, service_role;
grant execute on function private.end_sign_in(jsonb, uuid) to speedcoding_api;
alter function private.end_sign_in(jsonb, uuid) owner to speedcoding_writer;

-- The first wrong passwords are free. From then on each one doubles the wait, up to the longest. When ten networks have
-- failed at one account, somebody is hunting it: a failure from a network that its user does not use then brings the
-- longest wait at once. src/limits/failed_logins.rs says why this locks nobody out.
create or replace function private.fail_login(
  account_digest bytea, network_digest bytea, usual boolean, free integer, longest_seconds double precision
) returns jsonb
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  longest interval := longest_seconds * interval '1 second';
  moment timestamptz;
  failed integer;
  hunted boolean;
  refusal jsonb;
begin
  -- This only makes sure that the row exists, and locks it.
  insert into private.failed_logins as known (account, network, failures, blocked_until, forgotten_at)
  values (account_digest, network_digest, 0, private.clock(), private.clock() + 4 * longest)
  on conflict (account, network) do update set failures = known.failures
  returning case when known.forgotten_at > private.clock() then known.failures else 0 end + 1
  into failed;
  refusal := private.login_delay(account_digest, network_digest);
  if refusal is not null then
    return refusal;
  end if;

  moment := private.clock();
  hunted := not usual and 10 = (
    select count(*)
      from (
        select from private.failed_logins
         where account = account_digest
           and forgotten_at > moment
         limit 10
      ) as networks
  );
  update private.failed_logins
     set failures = failed,
         blocked_until = moment + case
           when hunted then longest
           when failed >= free then longest / power(2, greatest(0, free + 5 - failed))
           else interval '0'
         end,
         forgotten_at = moment + 4 * longest
   where account = account_digest
     and network = network_digest;
  -- Each failure adds one row at most and deletes up to ten old ones, so the table stays small.
  delete from private.failed_logins
   where (account, network) in (
     select account, network
       from private.failed_logins
      where forgotten_at < moment
      order by forgotten_at
      limit 10
        for update skip locked
   );
  return null;
end
$$;

comment on function private.fail_login(bytea, bytea, boolean, integer, double precision) is
  'Records a wrong password. Returns the refusal if there were too many already.';
revoke all on function private.fail_login(bytea, bytea, boolean, integer, double precision) from
  public, anon, authenticated, service_role;
grant execute on function private.fail_login(bytea, bytea, boolean, integer, double precision) to speedcoding_api;
alter function private.fail_login(bytea, bytea, boolean, integer, double precision) owner to speedcoding_writer;

create or replace function private.find_own_credentials(
  caller jsonb, out username text, out password_hash text
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  me uuid := (caller ->> 'sub')::uuid;
begin
  -- An erased account has no row. So a repeated erasure answers as the first time.
  if exists (select from public.users as u where u.id = me and u.erased_at is null) then
    me := private.enter(caller);
    select u.username, c.password_hash
      into find_own_credentials.username, find_own_credentials.password_hash
      from public.users as u
      join private.credentials as c on c.user_id = u.id
     where u.id = me;
  end if;
end
$$;

comment on function private.find_own_credentials(jsonb) is
  'The caller''s name and password hash, for requests that ask for the password again. Empty if the account is erased.';
revoke all on function private.find_own_credentials(jsonb) from public, anon, authenticated, service_role;
grant execute on function private.find_own_credentials(jsonb) to speedcoding_api;
alter function private.find_own_credentials(jsonb) owner to speedcoding_writer;

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

-- A cascade deletes the submissions of each session in a statement of its own. This function locks all rows that the
-- cascade will need before the first of them, in the same order as every other function. old_rows holds the deleted
-- rows.
create or replace function private.foresee_cascade() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  gone uuid[];
  challenges uuid[];
begin
  if old.id <> (select o.id from old_rows as o limit 1) then
    return null;
  end if;
  gone := array(select id from old_rows);
  -- Sessions before submissions, as a correction locks them. Also every row that names a moderator who is deleted.
  perform from public.sessions where user_id = any (gone) order by id for update;
  select array_agg(s.challenge_id) filter (where s.user_id = any (gone) or s.session_id = any (gone))
    into challenges
    from (
      select challenge_id, user_id, session_id
        from public.submissions
       where user_id = any (gone)
          or session_id = any (gone)
          or claimed_by = any (gone)
          or reviewed_by = any (gone)
       order by id
         for update
    ) as s;
  if challenges is not null then
    perform private.lock_boards(challenges);
  end if;
  return null;
end
$$;

comment on function private.foresee_cascade() is
  'Locks the submissions that a deletion will cascade to, then their challenges'' boards.';
revoke all on function private.foresee_cascade() from public, anon, authenticated, service_role;
alter function private.foresee_cascade() owner to speedcoding_keeper;

create or replace function private.get_leaderboard(
  caller jsonb, slug text, tech_stack text, known_versions bigint[], page_size integer,
  after_ms bigint default null, after_end timestamptz default null, after_id uuid default null
) returns setof private.board_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  board record;
begin
  perform private.enter(caller, anyone => true);
  -- The version is read first. A change in between is shown under the old version, so clients fetch it again.
  board := private.find_board(slug, tech_stack);
  if board.version <> all (known_versions) then
    return query
      with page as materialized (
        select p.total_ms, p.end_time, p.submission_id
          from public.personal_bests as p
         where p.challenge_id = board.challenge_id
           and p.tech_stack_key = board.tech_stack_key
           and (p.total_ms, p.end_time, p.submission_id) > (
             coalesce(after_ms, -1),
             coalesce(after_end, '-infinity'),
             coalesce(after_id, '00000000-0000-0000-0000-000000000000')
           )
         order by p.total_ms, p.end_time, p.submission_id
         limit page_size
      ),
      -- The rank of the page's first entry, and how many entries of the page before have the same time.
      start as materialized (
        select top.total_ms,
               private.rank_of(board.challenge_id, board.tech_stack_key, top.total_ms) as rank,
               (
                 select count(*)
                   from public.personal_bests as tied
                  where tied.challenge_id = board.challenge_id
                    and tied.tech_stack_key = board.tech_stack_key
                    and tied.total_ms = top.total_ms
                    and (tied.end_time, tied.submission_id) < (top.end_time, top.submission_id)
               ) as tied_before
          from page as top
         order by top.total_ms, top.end_time, top.submission_id
         limit 1
      ),
      ranked as (
        select page.*, rank() over (order by page.total_ms) as place
          from page
      )
      select board.version, board.entries,
             start.rank + ranked.place - 1
               + case when ranked.total_ms > start.total_ms then start.tied_before else 0 end,
             u.id, u.username::text, s.session_id, s.tech_stack, ranked.total_ms,
             s.total_time, s.packages, s.video_url, s.submitted_at, ranked.end_time,
             ranked.submission_id
        from ranked
       cross join start
       cross join lateral (select * from public.submissions as run where run.id = ranked.submission_id limit 1) as s
       cross join lateral (select * from public.users as runner where runner.id = s.user_id limit 1) as u
       order by ranked.total_ms, ranked.end_time, ranked.submission_id;
    if found then
      return;
    end if;
  end if;
  return next row(board.version, board.entries, null, null, null, null, null, null, null, null, null, null, null, null)
    ::private.board_result;
end
$$;

comment on function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid) is
  'A page of a board with ranks, after a given entry. Only the version if the caller already knows it.';
revoke all on function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid)
  to speedcoding_api;
alter function private.get_leaderboard(jsonb, text, text, bigint[], integer, bigint, timestamptz, uuid)
  owner to speedcoding_writer;

create or replace function private.guard_challenge_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  challenge uuid := case tg_op when 'INSERT' then new.challenge_id else old.challenge_id end;
begin
  -- Refuses a kind of verification that the rules do not know.
  if tg_op <> 'DELETE' then
    perform private.takes_input(new.verification);
  end if;
  if tg_op = 'UPDATE' and (new.challenge_id, new.number, new.verification) = (old.challenge_id, old.number, old.verification) then
    return null;
  end if;
  -- This waits for runs that are being started. Other changes to these milestones wait, so that the numbers have no gap.
  perform from public.challenges where id = challenge for update;
  perform private.demand_editable(
    challenge,
    concat_ws(' ',
      case when new.challenge_id <> old.challenge_id then 'A milestone keeps its challenge.' end,
      case when (tg_op = 'DELETE' or new.number <> old.number)
          and exists (select from public.sessions where challenge_id = challenge)
        then 'This challenge has been run, so its milestones keep their numbers and cannot be deleted.' end),
    tg_op = 'INSERT' or new.verification <> old.verification);
  return null;
end
$$;

comment on function private.guard_challenge_milestone() is
  'Refuses changes to a challenge''s milestones that its runs do not allow.';
revoke all on function private.guard_challenge_milestone() from public, anon, authenticated, service_role;
alter function private.guard_challenge_milestone() owner to speedcoding_keeper;

create or replace function private.guard_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Only triggers set `published`: it follows the submission.
  if tg_op = 'INSERT' then
    new.published := false;
    return new;
  end if;
  if tg_op = 'DELETE' then
    -- The deletion of a session deletes its milestones.
    if old.passed and pg_trigger_depth() = 1 then
      perform private.refuse(409, 'milestone_passed', 'A milestone that is passed stays passed.');
    end if;
    return old;
  end if;
  if new.published <> old.published and pg_trigger_depth() = 1 then
    perform private.refuse(409, 'milestone_fixed',
      'A milestone is public while its session''s submission is APPROVED: change the status of the submission, not published.');
  end if;
  if (new.id, new.session_id, new.user_id, new.milestone_number)
    is distinct from (old.id, old.session_id, old.user_id, old.milestone_number)
  then
    perform private.refuse(409, 'milestone_fixed', 'A milestone keeps its id, its session and its number.');
  end if;
  if old.passed and not new.passed then
    perform private.refuse(409, 'milestone_passed', 'A milestone that is passed stays passed.');
  end if;
  if new.passed <> (new.completed_at is not null) then
    perform private.refuse(409, 'milestone_times',
      'A milestone that is passed has a time in completed_at, and one that is not passed has none.');
  end if;
  new.pending := new.pending and not new.passed;
  return new;
end
$$;

comment on function private.guard_milestone() is 'Refuses changes to a milestone that history does not allow.';
revoke all on function private.guard_milestone() from public, anon, authenticated, service_role;
alter function private.guard_milestone() owner to speedcoding_keeper;

create or replace function private.guard_username() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- delete_me() sets the name and erased_at in one statement.
  if new.erased_at is null and lower(new.username) like 'erased-%' then
    -- Users who had such a name before this rule keep it.
    if tg_op = 'INSERT' or lower(new.username) <> lower(old.username) then
      perform private.refuse(400, 'invalid_request', 'username must not begin with erased-: erased accounts are called so.',
        jsonb_build_object('errors', jsonb_build_array(jsonb_build_object(
          'field', 'username', 'code', 'reserved',
          'message', 'must not begin with erased-: erased accounts are called so'))));
    end if;
  end if;
  return new;
end
$$;

comment on function private.guard_username() is 'Refuses a name that looks like that of an erased account.';
revoke all on function private.guard_username() from public, anon, authenticated, service_role;
alter function private.guard_username() owner to speedcoding_keeper;

-- The statement is planned at each call, because the best index depends on the filters.
create or replace function private.list_submissions(
  caller jsonb, page_size integer, mine boolean, status text, challenge text, after_time timestamptz, after_id uuid
) returns setof jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
declare
  reader uuid := private.enter(caller);
  everyones boolean := not mine and coalesce(private.caller_role(), '') in ('moderator', 'admin');
  -- The planner sees this as a constant, and so finds the index of this status.
  reviewed public.submission_status := status::public.submission_status;
  wanted uuid;
begin
  if challenge is not null then
    select c.id
      into wanted
      from public.challenges as c
     where c.slug = challenge;
    if not found then
      perform private.refuse(404, 'challenge_not_found', 'There is no such challenge: GET /challenges lists them.');
    end if;
  end if;
  return query
    select private.describe_submission(s)
      from public.submissions as s
     where (everyones or s.user_id = reader)
       and (reviewed is null or s.status = reviewed)
       and (wanted is null or s.challenge_id = wanted)
       and (after_id is null or (s.submitted_at, s.id) > (after_time, after_id))
     order by s.submitted_at, s.id
     limit page_size;
end
$$;

comment on function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) is
  'The caller''s own submissions. Moderators get everybody''s, unless they ask for their own. The oldest first, from those after a given one on.';
revoke all on function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) from
  public, anon, authenticated, service_role;
grant execute on function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) to speedcoding_api;
alter function private.list_submissions(jsonb, integer, boolean, text, text, timestamptz, uuid) owner to speedcoding_writer;

-- A token of any generation may end its sign-in, because that is always safe. A sign-in that has ended cannot end others.
create or replace function private.log_out(sign_in uuid, signed_by bytea, nonce bytea, scope text) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  account uuid;
begin
  select user_id
    into account
    from private.refresh_tokens
   where id = sign_in
     and key_id = signed_by
     and nonce_digest = nonce;
  if scope <> 'local' then
    perform from private.credentials where user_id = account for no key update;
  end if;
  -- Checked after the lock: of two devices that log each other out, the first one wins.
  perform
     from private.refresh_tokens as token
     join private.credentials as credential
       on credential.user_id = token.user_id
      and token.epoch = credential.sign_in_epoch
    where token.id = sign_in
      and token.user_id = account
      and token.live_until > private.clock();
  if not found then
    return 0;
  end if;
  if scope <> 'local' then
    return private.end_sign_ins(account, case scope when 'others' then sign_in end, 'logout');
  end if;
  update private.refresh_tokens
     set revoked_at = private.clock(), revoked_reason = 'logout'
   where id = sign_in
     and live_until > private.clock();
  return found::integer;
end
$$;

comment on function private.log_out(uuid, bytea, bytea, text) is
  'Ends the sign-in of a refresh token (local), all others of its user (others), or all (global). Returns how many it marked as ended.';
revoke all on function private.log_out(uuid, bytea, bytea, text) from public, anon, authenticated, service_role;
grant execute on function private.log_out(uuid, bytea, bytea, text) to speedcoding_api;

create or replace function private.open_recordings() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  statement text;
  refused text;
begin
  if to_regclass('storage.buckets') is null or to_regclass('storage.objects') is null then
    return;
  end if;
  -- The statements are texts, because without Supabase Storage these tables do not exist.
  foreach statement in array array[
    'insert into storage.buckets (id, name, public, allowed_mime_types)
     values (''recordings'', ''recordings'', false, ''{video/*}'')
         on conflict (id) do nothing',
    'drop policy if exists speedcoding_recordings_upload on storage.objects',
    'create policy speedcoding_recordings_upload on storage.objects for insert to authenticated
       with check (bucket_id = ''recordings'' and private.may_upload_recording(name))',
    'drop policy if exists speedcoding_recordings_read on storage.objects',
    'create policy speedcoding_recordings_read on storage.objects for select to anon, authenticated
       using (bucket_id = ''recordings'' and private.may_read_recording(name))',
    'drop policy if exists speedcoding_recordings_delete on storage.objects',
    'create policy speedcoding_recordings_delete on storage.objects for delete to authenticated
       using (bucket_id = ''recordings'' and private.may_delete_recording(name))'
  ]
  loop
    begin
      execute statement;
    exception
      when insufficient_privilege then
        refused := sqlerrm;
    end;
  end loop;
  if refused is not null then
    raise warning 'Nobody can upload recordings to Supabase Storage yet: for % it says "%"', current_user, refused
      using hint = 'Run `select private.open_recordings()` as a superuser (supabase_admin), or create in the dashboard '
        'what docs/dashboard.md lists.';
  end if;
end
$$;

comment on function private.open_recordings() is
  'Makes the private bucket `recordings` and its policies, if Supabase Storage is there and the caller has the right.';
revoke all on function private.open_recordings() from public, anon, authenticated, service_role;

create or replace function private.open_sign_in() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A login has locked this row. During a registration there is no row yet.
  select sign_in_epoch into new.epoch from private.credentials where user_id = new.user_id;
  new.epoch := coalesce(new.epoch, 0);
  return new;
end
$$;

comment on function private.open_sign_in() is 'Gives a new sign-in the epoch of its account.';
revoke all on function private.open_sign_in() from public, anon, authenticated, service_role;

-- A check constraint cannot look at the items of an array by itself.
create or replace function private.packages_valid(packages text[]) returns boolean
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return cardinality(packages) <= 200
    -- A list whose items are not lists.
    and coalesce(array_ndims(packages), 1) = 1
    and not exists (
      select from unnest(packages) as package
       where package is null
          or length(package) not between 1 and 214
          or package ~ '[\u0001-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]'
    );
end
$$;

comment on function private.packages_valid(text[]) is 'At most 200 names of 1 to 214 characters each.';
revoke all on function private.packages_valid(text[]) from public, anon, authenticated, service_role;
grant execute on function private.packages_valid(text[]) to
  service_role, speedcoding_writer, speedcoding_keeper;

-- Checks a milestone against its session and its challenge. Rows that exist already are not checked again.
create or replace function private.place_milestone() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  session record;
begin
  select s.challenge_id, s.start_time, coalesce(s.end_time, private.clock()) as end_time
    into session
    from public.sessions as s
   where s.id = new.session_id;
  -- If there is no session, the foreign key refuses the row.
  if not found then
    return new;
  end if;
  if not exists (
    select from public.challenge_milestones as m
     where m.challenge_id = session.challenge_id
       and m.number = new.milestone_number
  ) then
    perform private.refuse(400, 'unknown_milestone',
      format('The challenge of this session has no milestone %s.', new.milestone_number));
  end if;
  if new.completed_at < session.start_time or new.completed_at > session.end_time then
    perform private.refuse(409, 'milestone_times', format(
      'A milestone is passed while its session runs: completed_at must be from %s to %s.',
      session.start_time, session.end_time));
  end if;
  return new;
end
$$;

comment on function private.place_milestone() is
  'Refuses a milestone that its session''s challenge does not have, or that was passed before or after the session.';
revoke all on function private.place_milestone() from public, anon, authenticated, service_role;
alter function private.place_milestone() owner to speedcoding_keeper;

-- Keeps the old values of a row that somebody changes by hand. It does not log what runners and verifiers do: the rows
-- themselves say when that happened, and the triggers refuse to undo it.
create or replace function private.record_change() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  subject jsonb := coalesce(after, before);
begin
  insert into private.audit_log (action, user_id, subject_id, details)
  select tg_argv[0] || case tg_op when 'INSERT' then '.added' when 'UPDATE' then '.changed' else '.deleted' end,
         (subject ->> 'user_id')::uuid,
         (subject ->> tg_argv[1])::uuid,
         jsonb_strip_nulls(jsonb_build_object('milestoneNumber', coalesce(subject -> 'milestone_number', subject -> 'number')))
         || case
           when tg_op <> 'UPDATE' then '{}'
           else jsonb_build_object('was', (
             select jsonb_object_agg(b.key, b.value)
               from jsonb_each(before) as b
              where b.value is distinct from after -> b.key
                -- The log holds no text that a runner wrote, because it may be a name.
                and b.key not in ('tech_stack', 'tech_stack_key')))
         end;
  return null;
end
$$;

comment on function private.record_change() is 'Writes changes that somebody made by hand into the audit log, with the old values.';
revoke all on function private.record_change() from public, anon, authenticated, service_role;
alter function private.record_change() owner to speedcoding_keeper;

-- A client sends a token that was redeemed before. The first redemption opened a window, and nothing extends it.
-- docs/authentication.md says how this tells lost answers and late browser tabs from thieves.
create or replace function private.redeems_again(
  sign_in private.refresh_tokens, presented integer, grace_seconds double precision, patience_seconds double precision
) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  age interval := private.clock() - case presented
    when sign_in.generation - 1 then sign_in.rotated_at
    else sign_in.earlier_rotations[sign_in.generation - 1 - presented]
  end;
begin
  if presented >= sign_in.generation or age is null then
    return false;
  end if;
  return age < grace_seconds * interval '1 second'
    -- The newest token was never used, so its answer was probably lost. This is granted for one generation in four.
    or presented = sign_in.generation - 1
      and age < patience_seconds * interval '1 second'
      and (sign_in.forgiven_generation is null
        or presented = sign_in.forgiven_generation
        or presented >= sign_in.forgiven_generation + 4);
end
$$;

comment on function private.redeems_again(private.refresh_tokens, integer, double precision, double precision) is
  'Whether a refresh token that was redeemed before gets the newest token once more.';
revoke all on function private.redeems_again(private.refresh_tokens, integer, double precision, double precision) from
  public, anon, authenticated, service_role;
grant execute on function private.redeems_again(private.refresh_tokens, integer, double precision, double precision)
  to speedcoding_api;

-- A record is a run that was better, when it ended, than all runs that had ended before. Almost no run is one, and to
-- find that out this reads only the records.
create or replace function private.settle_records(runs private.run[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  fallen private.records[];
  candidates private.records[];
begin
  with gone as (
    delete from private.records as kept
     using unnest(runs) as run
     cross join lateral (values (''), (run.tech_stack_key)) as board (tech_stack_key)
     where (kept.challenge_id, kept.tech_stack_key, kept.submission_id)
         = (run.challenge_id, board.tech_stack_key, run.submission_id)
       and not exists (
         select from private.counted_runs as r
          where r.submission_id = kept.submission_id
            and kept.tech_stack_key in ('', r.tech_stack_key)
            and (r.total_ms, r.end_time) = (kept.total_ms, kept.end_time)
       )
    returning kept.*
  )
  select array_agg(gone::private.records) into fallen from gone;

  select array_agg(row(r.challenge_id, board.tech_stack_key, r.submission_id, r.total_ms, r.end_time)::private.records)
    into candidates
    from unnest(runs) as run
    join private.counted_runs as r on r.submission_id = run.submission_id
   cross join lateral (values (''), (r.tech_stack_key)) as board (tech_stack_key)
   where not exists (
     select from private.records as before
      where before.challenge_id = r.challenge_id
        and before.tech_stack_key = board.tech_stack_key
        and before.total_ms <= r.total_ms
        and (before.end_time, before.total_ms, before.submission_id) <= (r.end_time, r.total_ms, r.submission_id)
   );

  -- If a record falls, runs that ended between it and the next record may become records: those that were better than
  -- the record before it. No run after the best of all is a record.
  if fallen is not null then
    select candidates || array_agg(
             row(gap.challenge_id, gap.tech_stack_key, found.submission_id, found.total_ms, found.end_time)::private.records)
      into candidates
      from (
        select ladder.*,
               lead(end_time) over steps as next_end,
               min(total_ms) filter (where not has_fallen) over steps as to_beat
          from (
            select kept.*, false as has_fallen
              from (select distinct f.challenge_id, f.tech_stack_key from unnest(fallen) as f) as board
              join private.records as kept using (challenge_id, tech_stack_key)
             union all
            select f.*, true from unnest(fallen) as f
          ) as ladder
        window steps as (partition by challenge_id, tech_stack_key order by end_time, total_ms, submission_id)
      ) as gap
     cross join lateral (
       select p.end_time
         from public.personal_bests as p
        where p.challenge_id = gap.challenge_id
          and p.tech_stack_key = gap.tech_stack_key
        order by p.total_ms, p.end_time, p.submission_id
        limit 1
     ) as best
     cross join lateral (
       select r.submission_id, r.total_ms, r.end_time,
              min(r.total_ms) over (
                order by r.end_time, r.total_ms, r.submission_id rows between unbounded preceding and 1 preceding
              ) as to_beat
         from private.counted_runs as r
        where r.challenge_id = gap.challenge_id
          and gap.tech_stack_key in ('', r.tech_stack_key)
          and r.end_time between gap.end_time and least(gap.next_end, best.end_time)
          and r.total_ms < coalesce(gap.to_beat, 9223372036854775807)
     ) as found
     where gap.has_fallen
       and (found.to_beat is null or found.total_ms < found.to_beat);
  end if;

  if candidates is not null then
    merge into private.records as kept
    using (
      select ladder.*,
             min(total_ms) over (
               partition by challenge_id, tech_stack_key order by end_time, total_ms, submission_id
               rows between unbounded preceding and 1 preceding
             ) as to_beat
        from (
          select * from unnest(candidates)
           union
          select r.*
            from (select distinct c.challenge_id, c.tech_stack_key from unnest(candidates) as c) as board
            join private.records as r using (challenge_id, tech_stack_key)
        ) as ladder
    ) as step
       on (kept.challenge_id, kept.tech_stack_key, kept.submission_id)
        = (step.challenge_id, step.tech_stack_key, step.submission_id)
     when matched and step.total_ms >= step.to_beat then
       delete
     when not matched and (step.to_beat is null or step.total_ms < step.to_beat) then
       insert (challenge_id, tech_stack_key, submission_id, total_ms, end_time)
       values (step.challenge_id, step.tech_stack_key, step.submission_id, step.total_ms, step.end_time);
  end if;
end
$$;

comment on function private.settle_records(private.run[]) is
  'Makes the history of records right again after something has happened to these runs.';
revoke all on function private.settle_records(private.run[]) from public, anon, authenticated, service_role;
alter function private.settle_records(private.run[]) owner to speedcoding_keeper;

create or replace function speedcoding.check_request() returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
  request text;
begin
  if claims ->> 'role' = 'authenticated' and coalesce(claims ->> 'iss', '') not like '%/auth/v1' then
    perform private.enter(claims);
    request := nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-request-id';
    -- This header tells the service that it need not check the caller of this request again. A replica sends none,
    -- because it learns late of ended sign-ins.
    if request ~ '^[0-9a-f-]{36}$' and not pg_is_in_recovery() then
      perform set_config('response.headers', format('[{"Speedcoding-Admitted": "%s"}]', request), true);
    end if;
  end if;
end
$$;

comment on function speedcoding.check_request() is
  'PostgREST calls it before each request (db-pre-request). It refuses ended sign-ins and banned users, even if their token has not expired. A header of the answer names the request that was admitted.';
revoke all on function speedcoding.check_request() from public, anon, authenticated, service_role;
grant execute on function speedcoding.check_request() to anon, authenticated, service_role;
alter function speedcoding.check_request() owner to speedcoding_writer;

revoke create on schema private from speedcoding_keeper;
revoke create on schema private from speedcoding_writer;
revoke create on schema speedcoding from speedcoding_writer;
