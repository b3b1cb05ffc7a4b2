-- What others read has no control characters, which a terminal obeys, and none that turns the direction of what
-- follows: as in tech stacks. Longer texts have lines.

-- A check constraint cannot look into an array by itself.
create or replace function private.packages_valid(packages text[]) returns boolean
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
  return cardinality(packages) <= 200
    -- A list, not one of lists.
    and coalesce(array_ndims(packages), 1) = 1
    and not exists (
      select from unnest(packages) as package
       where package is null
          or length(package) not between 1 and 214
          or package ~ '[\u0001-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]'
    );
end
$$;

-- Rows that have one already must not be kept from a review, nor users from leaving: it becomes visible there.
do $$
declare
  plain constant text := '[\u0001-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]';
  lines constant text := '[\u0001-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]';
begin
  alter table public.submissions disable trigger user;
  update public.submissions as s
     set packages = array(
           select regexp_replace(p.package, plain, U&'\FFFD', 'g')
             from unnest(s.packages) with ordinality as p (package, place)
            order by p.place
         ),
         video_url = regexp_replace(s.video_url, plain, U&'\FFFD', 'g'),
         review_reason = regexp_replace(s.review_reason, lines, U&'\FFFD', 'g')
   where s.packages::text ~ plain
      or s.video_url ~ plain
      or s.review_reason ~ lines;
  alter table public.submissions enable trigger user;
  alter table private.reviews disable trigger user;
  update private.reviews set reason = regexp_replace(reason, lines, U&'\FFFD', 'g') where reason ~ lines;
  alter table private.reviews enable trigger user;
  alter table private.attestations disable trigger user;
  update private.attestations
     set checker_version = regexp_replace(checker_version, plain, U&'\FFFD', 'g')
   where checker_version ~ plain;
  alter table private.attestations enable trigger user;
end
$$;
-- All rows have just been looked at.
alter table public.submissions
  add constraint submissions_video_url_plain check (video_url !~ '[\u202A-\u202E\u2066-\u2069]') not valid,
  add constraint submissions_review_reason_plain check (
    review_reason !~ '[\u0001-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]'
  ) not valid;
alter table private.reviews
  add constraint reviews_reason_plain check (
    reason !~ '[\u0001-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]'
  ) not valid;
alter table private.attestations
  add constraint attestations_checker_version_plain
    check (checker_version !~ '[\u0001-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]') not valid;

-- Rows that only an editor changes are refused when they are edited next.
alter table public.challenges
  add constraint challenges_title_plain
    check (title !~ '[\u0001-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]') not valid,
  add constraint challenges_description_plain check (
    description !~ '[\u0001-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]'
  ) not valid;
alter table public.challenge_milestones
  add constraint challenge_milestones_title_plain
    check (title !~ '[\u0001-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]') not valid,
  add constraint challenge_milestones_description_plain check (
    description !~ '[\u0001-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u202A-\u202E\u2066-\u2069]'
  ) not valid;
