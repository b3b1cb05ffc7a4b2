-- Time, ids, durations, and how a function refuses.
--
-- Every function of ours pins its search path to pg_catalog, with pg_temp last. Left unnamed (an empty path) the
-- temporary schema would come first when types are looked up: whoever may create a temporary domain called uuid
-- would have his code run as the function's owner.

-- The one source of time. Milliseconds, because that is what clients are shown: what they compute from the
-- times that they see equals what is ranked. Never now(): the start of a transaction lets those who waited
-- for a lock record splits in the wrong order. Test databases replace this function to travel.
create or replace function private.clock() returns timestamptz
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return date_trunc('milliseconds', clock_timestamp());
end
$$;

comment on function private.clock() is 'The server''s clock, in whole milliseconds: the only source of time.';
revoke all on function private.clock() from public, anon, authenticated, service_role;
grant execute on function private.clock() to
  anon, authenticated, service_role, speedcoding_api, speedcoding_writer, speedcoding_keeper;

-- UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits. A version 4 UUID with the
-- time laid over its first six bytes; setting bits 52 and 53 turns its version from 0100 into 0111.
create or replace function private.uuid_v7() returns uuid
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return encode(
    set_bit(
      set_bit(
        overlay(
          uuid_send(gen_random_uuid())
          placing substring(int8send((extract(epoch from private.clock()) * 1000)::bigint) from 3)
          from 1 for 6
        ), 52, 1
      ), 53, 1
    ), 'hex')::uuid;
end
$$;

comment on function private.uuid_v7() is 'A new time-ordered id (RFC 9562).';
revoke all on function private.uuid_v7() from public, anon, authenticated, service_role;
grant execute on function private.uuid_v7() to
  service_role, speedcoding_api, speedcoding_writer, speedcoding_keeper;

create or replace function private.elapsed_ms(from_time timestamptz, to_time timestamptz) returns bigint
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return floor(extract(epoch from to_time - from_time) * 1000)::bigint;
end
$$;

comment on function private.elapsed_ms(timestamptz, timestamptz) is
  'Whole milliseconds from one time to another: the unit of ranking, ties and display.';
revoke all on function private.elapsed_ms(timestamptz, timestamptz) from
  public, anon, authenticated, service_role;
grant execute on function private.elapsed_ms(timestamptz, timestamptz) to
  anon, authenticated, service_role, speedcoding_writer, speedcoding_keeper;

-- "45m 12s", "1h 05m 09s", "12s". Seconds are cut, not rounded: a clock never shows time that has not passed.
create or replace function private.display_duration(duration_ms bigint) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when duration_ms >= 3600000 then
      (duration_ms / 3600000)::text || 'h '
      || lpad((duration_ms / 60000 % 60)::text, 2, '0') || 'm '
      || lpad((duration_ms / 1000 % 60)::text, 2, '0') || 's'
    when duration_ms >= 60000 then
      (duration_ms / 60000)::text || 'm ' || lpad((duration_ms / 1000 % 60)::text, 2, '0') || 's'
    else (duration_ms / 1000)::text || 's'
  end;
end
$$;

comment on function private.display_duration(bigint) is 'A duration for people, such as "45m 12s".';
revoke all on function private.display_duration(bigint) from public, anon, authenticated, service_role;
grant execute on function private.display_duration(bigint) to
  anon, authenticated, service_role, speedcoding_writer, speedcoding_keeper;

create or replace function private.moment(at timestamptz) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
end
$$;

comment on function private.moment(timestamptz) is 'A time as the API writes it: RFC 3339, UTC, milliseconds.';
revoke all on function private.moment(timestamptz) from public, anon, authenticated, service_role;
grant execute on function private.moment(timestamptz) to speedcoding_writer;

-- Boards group runs by this key, so "Rust + Postgres" and "postgres, rust" must meet in it. NFKC folds
-- look-alikes; lower, upper, lower is Unicode case folding as far as it can be had before PostgreSQL 18: the
-- first meets ẞ, the second ß and ς. The collation is ICU's, which every build has that Supabase runs.
-- White space counts once, what cannot be seen (soft hyphen, zero-width characters) not at all. A plus sign beside
-- another belongs to a name: C++ is not C. A stack of separators alone keeps itself as its key.
create or replace function private.tech_stack_key(tech_stack text) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(
      (
        select string_agg(distinct name, ',' order by name)
          from (
            select btrim(part) collate "C" as name
              from regexp_split_to_table(
                lower(upper(lower(normalize(visible, nfkc) collate "und-x-icu"))),
                '[,/&]|(?<!\+)\+(?!\+)'
              ) as part
          ) as parts
         where name <> ''
      ),
      btrim(visible)
    )
      from regexp_replace(
        regexp_replace(tech_stack, '[\u00AD\u200B-\u200F\u2060\u3164\uFEFF]', '', 'g'), '\s+', ' ', 'g'
      ) as visible
  );
end
$$;

comment on function private.tech_stack_key(text) is
  'What two spellings of one tech stack have in common: "postgres,rust".';
revoke all on function private.tech_stack_key(text) from public, anon, authenticated, service_role;
grant execute on function private.tech_stack_key(text) to
  service_role, speedcoding_writer, speedcoding_keeper;

-- A check constraint cannot look into an array by itself.
create or replace function private.packages_valid(packages text[]) returns boolean
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return cardinality(packages) <= 200
    and not exists (
      select from unnest(packages) as package
       where package is null or length(package) not between 1 and 214
    );
end
$$;

comment on function private.packages_valid(text[]) is 'At most 200 names of 1 to 214 characters each.';
revoke all on function private.packages_valid(text[]) from public, anon, authenticated, service_role;
grant execute on function private.packages_valid(text[]) to
  service_role, speedcoding_writer, speedcoding_keeper;

-- Function bodies use this and never auth.uid(): an owner other than Supabase's cannot use schema auth.
create or replace function private.caller_id() returns uuid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid;
end
$$;

comment on function private.caller_id() is 'The user whose verified claims are set for this transaction, or null.';
revoke all on function private.caller_id() from public, anon, authenticated, service_role;
grant execute on function private.caller_id() to speedcoding_writer, speedcoding_keeper;

-- One shape for every refusal: PostgREST turns SQLSTATE PTxyz into HTTP status xyz, and so does the service.
create or replace function private.refuse(
  status integer, code text, explanation text, members jsonb default null
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using
    errcode = 'PT' || status, message = explanation, hint = code, detail = coalesce(members, '{}')::text;
end
$$;

comment on function private.refuse(integer, text, text, jsonb) is
  'Refuses the request: an HTTP status, a stable code, a sentence for people, further members of the problem.';
revoke all on function private.refuse(integer, text, text, jsonb) from
  public, anon, authenticated, service_role;
grant execute on function private.refuse(integer, text, text, jsonb) to speedcoding_writer, speedcoding_keeper;

create or replace function private.refusal(status integer, code text, explanation text, members jsonb default '{}')
returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return members || jsonb_build_object('status', status, 'code', code, 'detail', explanation);
end
$$;

comment on function private.refusal(integer, text, text, jsonb) is
  'As private.refuse(), but returned, so that what was found out before is kept.';
revoke all on function private.refusal(integer, text, text, jsonb) from
  public, anon, authenticated, service_role;
grant execute on function private.refusal(integer, text, text, jsonb) to speedcoding_writer;
