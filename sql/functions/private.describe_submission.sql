create or replace function private.describe_submission(handed_in public.submissions) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  claim_expires_at timestamptz := private.claim_expiry(handed_in, private.clock());
begin
  return jsonb_build_object(
    'id', handed_in.id,
    'sessionId', handed_in.session_id,
    'packages', handed_in.packages,
    'videoUrl', handed_in.video_url,
    'submittedAt', handed_in.submitted_at,
    'status', handed_in.status,
    'revision', handed_in.revision,
    'claimedBy', case when claim_expires_at is not null then handed_in.claimed_by end,
    'claimedAt', case when claim_expires_at is not null then handed_in.claimed_at end,
    'claimExpiresAt', claim_expires_at,
    'reviewReason', case
      when handed_in.status = 'APPROVED' then (
        select r.reason
          from private.reviews as r
         where r.submission_id = handed_in.id
         order by r.id desc
         limit 1
      )
      else handed_in.review_reason
    end,
    'reviewedAt', handed_in.reviewed_at,
    'clockWentBackMs', (
      select s.clock_went_back_ms
        from public.sessions as s
       where s.id = handed_in.session_id
    ),
    'sameVideo', case when private.caller_role() in ('moderator', 'admin') then private.same_video(handed_in) end
  );
end
$$;

comment on function private.describe_submission(public.submissions) is
  'A submission, with the reason of its last review if the caller may see it. Moderators also see where else the same video was handed in.';
revoke all on function private.describe_submission(public.submissions) from public, anon, authenticated, service_role;
alter function private.describe_submission(public.submissions) owner to speedcoding_writer;
