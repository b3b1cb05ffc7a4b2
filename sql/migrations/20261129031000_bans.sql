-- Bans are rows of a table that clients read nothing of: who is banned, and since when, is nobody else's business. A
-- hidden column of public.users would not do: PostgREST refuses `select=*` where one column may not be read.

create table public.bans (
  user_id uuid primary key references public.users (id) on delete cascade,
  banned_at timestamptz not null default private.clock()
    constraint bans_banned_at_range check (banned_at between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00')
);
comment on table public.bans is
  'Users who may do nothing, and whose runs count on no board. A new row bans, and its removal lets in again.';
comment on column public.bans.user_id is 'The user.';
comment on column public.bans.banned_at is 'Since when. It is only told: a ban counts at once, whatever its time.';
revoke all on public.bans from public, anon, authenticated, service_role;
alter table public.bans enable row level security;
-- The service, its functions and the triggers look up who is banned. No client does.
create policy bans_read on public.bans for select to speedcoding_api, speedcoding_writer, speedcoding_keeper using (true);
grant select on public.bans to speedcoding_api, speedcoding_writer, speedcoding_keeper;
grant select, insert, update, delete on public.bans to service_role;

-- Times that clients could not read were not refused before they were edited.
insert into public.bans (user_id, banned_at)
select id, least(greatest(banned_at, '2000-01-01 00:00:00+00'), '9000-01-01 00:00:00+00')
  from public.users
 where banned_at is not null;

create or replace view private.counted_runs with (security_invoker = true) as
select s.id as submission_id, s.user_id, s.challenge_id, s.tech_stack_key, s.total_ms, s.end_time
  from public.submissions as s
 where s.status = 'APPROVED'
   and not exists (select from public.bans as b where b.user_id = s.user_id);

drop trigger users_audit on public.users;
create trigger users_audit after update on public.users
  for each row
  when (old.username <> new.username or old.role <> new.role)
  execute function private.audit_user();
alter table public.users drop column banned_at;
alter type private.user_result drop attribute banned_at;

grant create on schema private to speedcoding_keeper;
grant create on schema private to speedcoding_writer;

create or replace function private.audit_ban() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op <> 'INSERT' then
    -- The ban of a deleted user goes with it.
    insert into private.audit_log (action, user_id, subject_id)
    select 'user.unbanned', u.id, u.id from public.users as u where u.id = old.user_id;
  end if;
  if tg_op <> 'DELETE' then
    insert into private.audit_log (action, user_id, subject_id)
    values ('user.banned', new.user_id, new.user_id);
  end if;
  return null;
end
$$;

comment on function private.audit_ban() is 'Notes in the audit log who was banned, and who was let in again.';
revoke all on function private.audit_ban() from public, anon, authenticated, service_role;
alter function private.audit_ban() owner to speedcoding_keeper;

create or replace function private.audit_user() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    insert into private.audit_log (action, user_id, subject_id, details)
    values ('user.registered', new.id, new.id, jsonb_build_object('role', new.role));
    return null;
  end if;
  if tg_op = 'DELETE' then
    -- delete_me() writes its own entry.
    insert into private.audit_log (action, user_id)
    select 'user.erased', old.id where private.caller_id() is null;
    return null;
  end if;
  -- delete_me() also changes the name.
  if new.username <> old.username and new.erased_at is null then
    insert into private.audit_log (action, user_id, subject_id)
    values ('user.renamed', new.id, new.id);
  end if;
  if new.role <> old.role then
    insert into private.audit_log (action, user_id, subject_id, details)
    values ('user.role_changed', new.id, new.id, jsonb_build_object('from', old.role, 'to', new.role));
  end if;
  return null;
end
$$;

comment on function private.audit_user() is 'Writes into the audit log that an account was made, renamed, given a role or removed.';
revoke all on function private.audit_user() from public, anon, authenticated, service_role;
alter function private.audit_user() owner to speedcoding_keeper;

-- Read at use, never from the token, so that a demotion or a ban counts at once. It is SECURITY DEFINER
-- because the roles whose policies ask cannot enter this schema.
create or replace function private.caller_role() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select u.role::text
      from public.users as u
     where u.id = private.caller_id()
       and not exists (select from public.bans as b where b.user_id = u.id)
  );
end
$$;

comment on function private.caller_role() is 'The caller''s role now; null for nobody and for the banned.';
revoke all on function private.caller_role() from public, anon, authenticated, service_role;
grant execute on function private.caller_role() to anon, authenticated, speedcoding_writer;
alter function private.caller_role() owner to speedcoding_keeper;

create or replace function private.demand_submission(caller jsonb, submission_id uuid) returns public.submissions
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  moderator uuid := private.enter(caller);
  judged public.submissions;
begin
  select s.*
    into judged
    from public.submissions as s
   where s.id = demand_submission.submission_id
     for no key update;
  -- Checked after the lock, so that an earlier demotion counts.
  perform private.demand_role('moderator');
  if judged.id is null then
    perform private.refuse(404, 'submission_not_found', 'There is no such submission.');
  end if;
  if judged.user_id = moderator then
    perform private.refuse(403, 'own_run', 'Nobody judges their own run.');
  end if;
  -- A claim counts while its time lasts and its moderator is still a moderator.
  if judged.claimed_by <> moderator
    and private.claim_expiry(judged, private.clock()) is not null
    and private.caller_role() <> 'admin'
    and exists (
      select from public.users as u
       where u.id = judged.claimed_by
         and u.role in ('moderator', 'admin')
         and not exists (select from public.bans as b where b.user_id = u.id)
    )
  then
    perform private.refuse(409, 'submission_claimed', 'Another moderator has taken this submission.',
      jsonb_build_object('claimedBy', judged.claimed_by,
        'claimExpiresAt', private.moment(private.claim_expiry(judged, private.clock()))));
  end if;
  return judged;
end
$$;

comment on function private.demand_submission(jsonb, uuid) is
  'Locks and returns the submission that the caller is going to judge. Refuses a caller who is no moderator, who is its runner, or who did not claim it while another moderator has.';
revoke all on function private.demand_submission(jsonb, uuid) from public, anon, authenticated, service_role;
alter function private.demand_submission(jsonb, uuid) owner to speedcoding_writer;

-- The first line of every domain function. From here on every policy sees the caller, for this transaction
-- only: nothing of one request can stay on a pooled connection. Logout, revocation and bans count at once,
-- whatever the access token still says.
create or replace function private.enter(caller jsonb, anyone boolean default false) returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  signed_in record;
begin
  perform set_config('request.jwt.claims', coalesce(caller, '{"role": "anon"}')::text, true);
  if caller is null then
    if not anyone then
      perform private.refuse(401, 'missing_token', 'Send an access token: log in to get one.');
    end if;
    return null;
  end if;
  select token.user_id, ban.user_id is not null as is_banned
    into signed_in
    from private.refresh_tokens as token
    join private.credentials as credential
      on credential.user_id = token.user_id
     and token.epoch = credential.sign_in_epoch
    left join public.bans as ban on ban.user_id = token.user_id
   where token.id = (caller ->> 'session_id')::uuid
     and token.user_id = (caller ->> 'sub')::uuid
     and token.live_until > private.clock();
  if not found then
    perform private.refuse(401, 'sign_in_ended', 'This sign-in has ended: log in again.');
  end if;
  if signed_in.is_banned then
    perform private.refuse(403, 'account_banned', 'This account is banned.');
  end if;
  return signed_in.user_id;
end
$$;

comment on function private.enter(jsonb, boolean) is
  'Makes the verified claims the caller of this transaction and returns the user''s id; refuses the signed-out and the banned.';
revoke all on function private.enter(jsonb, boolean) from public, anon, authenticated, service_role;
grant execute on function private.enter(jsonb, boolean) to speedcoding_writer;
alter function private.enter(jsonb, boolean) owner to speedcoding_writer;

create or replace function private.follow_bans() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  changed uuid[];
begin
  -- The runs of a deleted user go by themselves.
  if tg_op <> 'INSERT' then
    select array_agg(u.id) into changed from old_rows as o join public.users as u on u.id = o.user_id;
  end if;
  if tg_op <> 'DELETE' then
    select changed || array_agg(n.user_id) into changed from new_rows as n;
  end if;
  perform private.settle_runners(changed);
  return null;
end
$$;

comment on function private.follow_bans() is 'Lets the boards follow bans.';
revoke all on function private.follow_bans() from public, anon, authenticated, service_role;
alter function private.follow_bans() owner to speedcoding_keeper;

create or replace function private.follow_users() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  renamed uuid[];
begin
  select array_agg(n.id)
    into renamed
    from old_rows as o
    join new_rows as n on n.id = o.id
   where n.username <> o.username;
  perform private.settle_runners(renamed);
  return null;
end
$$;

comment on function private.follow_users() is 'Lets the boards follow changes of names.';
revoke all on function private.follow_users() from public, anon, authenticated, service_role;
alter function private.follow_users() owner to speedcoding_keeper;

create or replace function private.get_user(caller jsonb, username text) returns private.user_result
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  profile private.user_result;
begin
  perform private.enter(caller, anyone => true);
  select u.id, u.username::text, u.role::text, u.created_at, 0, 0, 0, '[]'::jsonb
    into profile
    from public.users as u
   where lower(u.username) = lower(get_user.username collate "C")
     and u.erased_at is null;
  if not found then
    perform private.refuse(404, 'user_not_found', 'There is no user of this name.');
  end if;
  -- The runs of a banned user do not count.
  if not exists (select from public.bans as b where b.user_id = profile.id) then
    select count(*)
      into profile.approved_runs
      from public.submissions as s
     where s.user_id = profile.id
       and s.status = 'APPROVED';
    with bests as materialized (
      select p.*, c.slug,
             not exists (
               select from public.personal_bests as faster
                where faster.challenge_id = p.challenge_id
                  and faster.tech_stack_key = p.tech_stack_key
                  and faster.total_ms < p.total_ms
             ) as is_first
        from public.personal_bests as p
        join public.challenges as c on c.id = p.challenge_id and c.ranked
       where p.user_id = profile.id
    ),
    shown as (
      select b.*
        from bests as b
       order by b.tech_stack_key <> '', b.end_time desc, b.submission_id
       limit 100
    )
    select (select count(*) from bests where bests.tech_stack_key = ''),
           (select count(*) from bests where bests.is_first),
           coalesce(jsonb_agg(jsonb_build_object(
             'challenge', shown.slug,
             'techStackKey', nullif(shown.tech_stack_key, ''),
             'rank', private.rank_of(shown.challenge_id, shown.tech_stack_key, shown.total_ms),
             'of', b.entries,
             'sessionId', s.session_id,
             'techStack', s.tech_stack,
             'totalTimeMs', shown.total_ms,
             'totalTime', s.total_time,
             'videoUrl', s.video_url,
             'achievedAt', shown.end_time
           ) order by shown.tech_stack_key <> '', shown.slug, shown.tech_stack_key), '[]')
      into profile.challenges, profile.first_places, profile.personal_bests
      from shown
      join private.boards as b using (challenge_id, tech_stack_key)
      join public.submissions as s on s.id = shown.submission_id;
  end if;
  return profile;
end
$$;

comment on function private.get_user(jsonb, text) is
  'A public profile: the user''s runs that count, and at most 100 personal bests, first the overall ones and then the newest others.';
revoke all on function private.get_user(jsonb, text) from public, anon, authenticated, service_role;
grant execute on function private.get_user(jsonb, text) to speedcoding_api;
alter function private.get_user(jsonb, text) owner to speedcoding_writer;

-- Boards read bans and names without a lock on the account. So nothing else may settle boards while these change: an
-- approval that this transaction cannot see yet would put a banned runner on a board.
create or replace function private.settle_runners(changed uuid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  runs private.run[];
begin
  if changed is null then
    return;
  end if;
  lock table private.boards in exclusive mode;
  select array_agg(row(s.id, s.challenge_id, s.user_id, s.tech_stack_key)::private.run)
    into runs
    from public.submissions as s
   where s.user_id = any (changed)
     and s.status = 'APPROVED';
  if runs is not null then
    perform private.settle_boards(runs);
  end if;
end
$$;

comment on function private.settle_runners(uuid[]) is
  'Makes the boards right again after users were banned, let in again or given another name. Null for none.';
revoke all on function private.settle_runners(uuid[]) from public, anon, authenticated, service_role;
alter function private.settle_runners(uuid[]) owner to speedcoding_keeper;

revoke create on schema private from speedcoding_keeper;
revoke create on schema private from speedcoding_writer;

create trigger bans_audit after insert or delete or update of user_id on public.bans
  for each row execute function private.audit_ban();
create trigger bans_follow_insert after insert on public.bans
  referencing new table as new_rows
  for each statement execute function private.follow_bans();
create trigger bans_follow_update after update on public.bans
  referencing old table as old_rows new table as new_rows
  for each statement execute function private.follow_bans();
create trigger bans_follow_delete after delete on public.bans
  referencing old table as old_rows
  for each statement execute function private.follow_bans();
