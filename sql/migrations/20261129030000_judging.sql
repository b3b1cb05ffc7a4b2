-- A session that has ended while a verdict was pending waits for it. Alone in its migration: a value that was added to
-- a type cannot be used in the same transaction.
alter type public.session_status add value 'judging' after 'running';
comment on type public.session_status is
  'running; judging: ended, while a verdict was pending; completed: ended with enough milestones; incomplete: without; abandoned: given up; expired: past its deadline.';
