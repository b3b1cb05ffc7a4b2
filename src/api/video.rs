//! The URL of a recording: which ones are taken, and how they are written.

use url::Url;

use crate::{config::Config, text::is_hidden};

/// The most characters of a URL.
const LONGEST: usize = 2048;

/// The URL as it is stored: without white space around it and without `:443`, with the scheme and the host in lower
/// case. The rest stays as it was sent. The error describes the mistake in words.
///
/// A URL is taken if it is https without credentials or a port, and its host is allowed. An allowed host stands for its
/// subdomains too, and the project's own storage is allowed. The database checks that a recording there is the runner's
/// own, and that the URL names a video. The parser follows the browsers' standard (WHATWG URL), so that the URL that is
/// checked is the URL that a browser opens.
pub(super) fn plain_video_url(sent: &str, config: &Config) -> Result<String, String> {
    let sent = sent.trim();
    if sent.is_empty() {
        return Err("is blank".into());
    }
    if sent.chars().count() > LONGEST {
        return Err(format!("has more than {LONGEST} characters"));
    }
    if sent.contains(char::is_whitespace) {
        return Err("has white space in it".into());
    }
    if let Some(hidden) = sent.chars().find(|c| is_hidden(*c)) {
        return Err(format!(
            "has a character in it that cannot be seen, U+{:04X}",
            u32::from(hidden)
        ));
    }
    let url = Url::parse(sent)
        .map_err(|_| "is not a URL such as https://www.youtube.com/watch?v=dQw4w9WgXcQ")?;
    let rest = match sent.split_at_checked("https://".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https://") => rest,
        _ => return Err("must begin with https://".into()),
    };
    // The parser accepts backslashes, other numbers of slashes, an empty user, and look-alikes of letters. Other
    // programs that read the text may not.
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("must not name a user before the host".into());
    }
    let written = authority.strip_suffix(":443").unwrap_or(authority);
    if written.contains(':') {
        return Err("must not name a port".into());
    }
    let host = url.host_str().unwrap_or_default();
    if !written.eq_ignore_ascii_case(host) || host.split('.').any(str::is_empty) {
        return Err("must name its host in plain letters".into());
    }
    if path.contains('\\') {
        return Err("has a backslash in it".into());
    }
    let hosts = &config.video_hosts;
    let is_beneath = |host: &str, above: &str| {
        host.strip_suffix(above)
            .is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
    };
    let is_allowed = hosts.iter().any(|allowed| {
        is_beneath(host, allowed)
            // YouTube's host for embedded players without cookies.
            || allowed == "youtube.com" && is_beneath(host, "youtube-nocookie.com")
    });
    let project = config.supabase_url.as_ref().and_then(Url::host_str);
    let is_recording = project == Some(host)
        && ["public", "sign", "authenticated"]
            .iter()
            .any(|kind| path.starts_with(&format!("/storage/v1/object/{kind}/recordings/")));
    if is_allowed || is_recording {
        return Ok(format!("https://{host}{path}"));
    }
    let storage = project.map(|host| format!(", or in the bucket recordings of {host}"));
    Err(format!(
        "must be on one of {}{}",
        hosts.join(", "),
        storage.unwrap_or_default()
    ))
}
