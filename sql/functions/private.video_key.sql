-- YouTube, Vimeo and Twitch have many addresses for one video: for embedding, for sharing, for phones. Their addresses
-- without a video (a channel, a playlist, the start page) have no key, and neither have addresses that name two. On other
-- hosts the address itself is the key, as a digest: an address can be longer than an index allows. A recording in Storage
-- is the same object whatever its query is.
create or replace function private.video_key(video_url text) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  host text := lower(substring(video_url from '^https://([^/?#]+)'));
  -- The path and the query.
  rest text := coalesce(substring(video_url from '^https://[^/?#]+([^#]*)'), '');
  id text;
begin
  if host ~ '(^|\.)(youtu\.be|youtube(-nocookie)?\.com)$' then
    id := coalesce(
      case
        when rest !~ '[?&]v=.*&v=' then substring(rest from '^/watch/?\?(?:[^#]*&)?v=([A-Za-z0-9_-]+)(?:&|$)')
      end,
      'clip ' || substring(rest from '^/clip/([A-Za-z0-9_-]+)/?(?:\?|$)'),
      substring(rest from '^/(?:embed|shorts|live|v|e)/([A-Za-z0-9_-]+)/?(?:\?|$)'),
      case when host ~ 'youtu\.be$' then substring(rest from '^/([A-Za-z0-9_-]+)/?(?:\?|$)') end);
    -- These are players of a playlist and of a channel, and pages.
    return 'youtube ' || case when id not in ('videoseries', 'live_stream', 'watch', 'playlist') then id end;
  elsif host ~ '(^|\.)vimeo\.com$' then
    return 'vimeo ' || coalesce(
      'event ' || substring(rest from '^/event/([0-9]+)(?:[/?]|$)'),
      substring(rest from '^/(?:[^?]*/)?(?:videos?|review)/([0-9]+)(?:[/?]|$)'),
      substring(rest from '^/(?:(?:channels|ondemand)/[^/?]+/)?([0-9]+)(?:[/?]|$)'));
  elsif host ~ '(^|\.)twitch\.tv$' then
    return 'twitch ' || case
      when host = 'player.twitch.tv' then substring(rest from '[?&]video=v?([0-9]+)(?:&|$)')
      when host = 'clips.twitch.tv' then coalesce(
        substring(rest from '^/embed\?(?:[^#]*&)?clip=([A-Za-z0-9_-]+)'),
        substring(rest from '^/(?!(?:embed|create)(?:[/?]|$))([A-Za-z0-9_-]+)/?(?:\?|$)'))
      else coalesce(
        substring(rest from '^/(?:videos|[^/?]+/v(?:ideo)?)/([0-9]+)/?(?:\?|$)'),
        substring(rest from '^/[^/?]+/clip/([A-Za-z0-9_-]+)/?(?:\?|$)'))
    end;
  end if;
  return 'url ' || encode(sha256(convert_to(host || coalesce(private.recording_path(video_url), rest), 'UTF8')), 'hex');
end
$$;

comment on function private.video_key(text) is
  'The video that a URL names, such as "youtube dQw4w9WgXcQ". Null for a URL of YouTube, Vimeo or Twitch that names no video.';
revoke all on function private.video_key(text) from public, anon, authenticated, service_role;
grant execute on function private.video_key(text) to service_role, speedcoding_writer, speedcoding_keeper;
