-- The audit log holds no names, so that an account can be erased. This view adds those of accounts that still exist, the
-- moderator's too where somebody else wrote the decision down in the dashboard.

create view private.audit_trail with (security_invoker = true) as
select log.id, log.happened_at, log.action, log.actor_id, actor.username as actor, log.database_role,
       reviewer.id as reviewer_id, reviewer.username as reviewer,
       log.user_id, account.username as account, log.subject_id, log.details
  from private.audit_log as log
  left join public.users as actor on actor.id = log.actor_id
  left join public.users as reviewer
    on reviewer.id = coalesce(log.details ->> 'reviewedBy', log.details ->> 'claimedBy')::uuid
  left join public.users as account on account.id = log.user_id;

comment on view private.audit_trail is 'The audit log with the names of accounts that still exist. Sort by id: the order of time.';
comment on column private.audit_trail.id is 'UUIDv7: in the order of time.';
comment on column private.audit_trail.happened_at is 'When, by the server''s clock.';
comment on column private.audit_trail.action is 'What, as subject.verb: submission.approved, sign_in.revoked.';
comment on column private.audit_trail.actor_id is 'The user who did it, where the request had one.';
comment on column private.audit_trail.actor is 'That user''s name.';
comment on column private.audit_trail.database_role is
  'The database role that did it: speedcoding_api for the service, postgres or service_role for the dashboard.';
comment on column private.audit_trail.reviewer_id is
  'The moderator whose decision or claim it is: who acted or, in the dashboard, who was written down.';
comment on column private.audit_trail.reviewer is 'That moderator''s name.';
comment on column private.audit_trail.user_id is 'The user to whom it happened.';
comment on column private.audit_trail.account is 'That user''s name.';
comment on column private.audit_trail.subject_id is 'The row that it happened to: a sign-in, a session, a submission.';
comment on column private.audit_trail.details is 'What else there is to know, such as the cause.';
revoke all on private.audit_trail from public, anon, authenticated, service_role;
