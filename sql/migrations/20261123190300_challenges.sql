-- What is built against the clock.

create type public.milestone_verification as enum ('manual', 'answer', 'verifier');
comment on type public.milestone_verification is
  'manual: the runner says so; answer: compared with a digest; verifier: a verifier attests.';

create table public.challenges (
  id uuid primary key default private.uuid_v7(),
  slug text not null constraint challenges_slug_key unique
    constraint challenges_slug_form check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' and length(slug) <= 64),
  title text not null constraint challenges_title_length check (length(title) between 1 and 200),
  description text not null default '',
  required_milestones integer not null default 0
    constraint challenges_required_milestones_range check (required_milestones between 0 and 1000),
  ordered boolean not null default false,
  ranked boolean not null default true,
  max_duration interval not null default '24 hours'
    constraint challenges_max_duration_range check (max_duration between '1 minute' and '30 days'),
  active boolean not null default true
);
comment on table public.challenges is 'What is built against the clock.';
comment on column public.challenges.id is 'UUIDv7.';
comment on column public.challenges.slug is 'Its name in URLs, such as slack-clone; once it has been run it stays.';
comment on column public.challenges.title is 'Its name for people.';
comment on column public.challenges.description is 'What is to be built, in Markdown.';
comment on column public.challenges.required_milestones is 'How many milestones a completed session has passed.';
comment on column public.challenges.ordered is 'Whether milestone N needs all milestones before it.';
comment on column public.challenges.ranked is 'Whether approved runs are ranked on boards.';
comment on column public.challenges.max_duration is 'A session that runs longer has expired.';
comment on column public.challenges.active is 'Whether new sessions may start; the public sees only active ones.';

create table public.challenge_milestones (
  challenge_id uuid not null references public.challenges (id) on delete cascade,
  number integer not null constraint challenge_milestones_number_range check (number between 1 and 1000),
  title text not null constraint challenge_milestones_title_length check (length(title) between 1 and 200),
  description text not null default '',
  verification public.milestone_verification not null default 'manual',
  primary key (challenge_id, number)
);
comment on table public.challenge_milestones is 'The numbered milestones of each challenge.';
comment on column public.challenge_milestones.challenge_id is 'Whose milestone it is.';
comment on column public.challenge_milestones.number is 'Its place, from 1.';
comment on column public.challenge_milestones.title is 'What has been built when it is passed.';
comment on column public.challenge_milestones.description is 'How to tell, in Markdown.';
comment on column public.challenge_milestones.verification is 'Who judges it.';

revoke all on public.challenges, public.challenge_milestones from
  public, anon, authenticated, service_role;
alter table public.challenges enable row level security;
alter table public.challenge_milestones enable row level security;
-- Everyone sees what can be started; what is still being prepared, or was withdrawn, only the rules see,
-- for sessions that run on it.
create policy challenges_read on public.challenges for select to anon, authenticated using (active);
create policy challenges_rules on public.challenges for select to speedcoding_writer using (true);
-- A milestone is seen with its challenge. (The policies of challenges read no table: nothing can recurse.)
create policy challenge_milestones_read on public.challenge_milestones for select to anon, authenticated
  using (challenge_id in (select id from public.challenges));
create policy challenge_milestones_rules on public.challenge_milestones for select to speedcoding_writer
  using (true);
grant select on public.challenges, public.challenge_milestones to
  anon, authenticated, speedcoding_writer;
grant select, insert, update, delete on public.challenges, public.challenge_milestones to service_role;

insert into public.challenges (slug, title, description, required_milestones, ordered, ranked)
values
  ('freestyle', 'Freestyle',
   'Build anything. Seven milestones to split your run with, in any order; none is required.', 0, false, false),
  ('slack-clone', 'Slack clone',
   'Build a team chat from nothing: accounts, channels, messages that arrive at once, threads, search.',
   7, true, true);

insert into public.challenge_milestones (challenge_id, number, title, description)
select challenge.id, milestone.number, milestone.title, milestone.description
  from (values
    ('freestyle', 1, 'Milestone 1', 'Whatever you call the first step.'),
    ('freestyle', 2, 'Milestone 2', 'Whatever you call the second step.'),
    ('freestyle', 3, 'Milestone 3', 'Whatever you call the third step.'),
    ('freestyle', 4, 'Milestone 4', 'Whatever you call the fourth step.'),
    ('freestyle', 5, 'Milestone 5', 'Whatever you call the fifth step.'),
    ('freestyle', 6, 'Milestone 6', 'Whatever you call the sixth step.'),
    ('freestyle', 7, 'Milestone 7', 'Whatever you call the seventh step.'),
    ('slack-clone', 1, 'Accounts', 'A visitor can sign up, log in and log out.'),
    ('slack-clone', 2, 'Channels', 'A user can create, join and leave channels.'),
    ('slack-clone', 3, 'Messages', 'Messages can be sent to a channel and are there after a reload.'),
    ('slack-clone', 4, 'Real time', 'A message appears in every open window within a second.'),
    ('slack-clone', 5, 'Threads', 'A message can be answered in a thread of its own.'),
    ('slack-clone', 6, 'Search', 'Messages can be found by the words in them.'),
    ('slack-clone', 7, 'Deployed', 'All of it works at a public address.')
  ) as milestone (slug, number, title, description)
  join public.challenges as challenge using (slug);
