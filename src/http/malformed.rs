//! Requests that are not HTTP: how they are found, and answers to requests that no operation has seen.

use std::{borrow::Cow, mem::take};

use hyper::body::Bytes;
use poem::http::StatusCode;

use crate::{
    problem::{Problem, REQUEST_ID},
    random::request_id,
};

/// How many bytes of a line are kept.
const LINE: usize = 1024;

/// Follows the requests on a connection, and finds two mistakes: a line outside of a body that ends without a carriage
/// return, and a head that gives its body two lengths. Two servers may read such bytes as two different requests (RFC
/// 9112, sections 2.2 and 6.1). The HTTP library accepts both mistakes.
#[derive(Default)]
pub struct Lines {
    part: Part,
    /// The line that has begun. Of a longer line, only the first `LINE` bytes and the last byte are kept.
    line: Vec<u8>,
    /// The length of the body behind this head, if the head gives it.
    length: Option<usize>,
    /// Whether the body behind this head comes in chunks.
    is_chunked: bool,
    /// How many bytes of a body come next.
    body: usize,
    /// A character in a request's target that a URL must have in its escaped form (RFC 3986, section 2).
    raw: Option<u8>,
}

/// The part of a request that the line which has begun belongs to.
#[derive(Clone, Copy, Default, PartialEq)]
enum Part {
    /// Before a request. Empty lines may come here.
    #[default]
    Start,
    Head,
    /// The line before each chunk says how long it is.
    Chunks,
    Trailers,
    /// This is HTTP/2, or the HTTP library will read no further.
    Over,
}

impl Lines {
    /// Puts U+0000 in the place of the line feed where a request is malformed. The HTTP library answers the requests
    /// before it, and refuses this one.
    pub fn spoil_bare_ends(&mut self, bytes: &mut [u8]) {
        let mut bytes = bytes.iter_mut();
        while self.part != Part::Over {
            let skipped = self.body.min(bytes.len());
            self.body -= skipped;
            let Some(byte) = bytes.nth(skipped) else {
                return;
            };
            if *byte != b'\n' {
                self.line.truncate(LINE);
                self.line.push(*byte);
                continue;
            }
            let mut line = take(&mut self.line);
            let next = line.strip_suffix(b"\r").and_then(|line| self.after(line));
            self.part = next.unwrap_or_else(|| {
                *byte = 0;
                Part::Over
            });
            line.clear();
            self.line = line;
        }
    }

    /// The problem to send instead of the HTTP library's refusal. It is none if the answer is the service's own: such
    /// an answer has the id of its request.
    pub fn library_refusal(&self, bytes: &[u8]) -> Option<Problem> {
        let text = str::from_utf8(bytes).ok()?;
        let status = text
            .strip_prefix("HTTP/1.1 ")
            .or(text.strip_prefix("HTTP/1.0 "))?;
        let status: StatusCode = status.get(..3)?.parse().ok()?;
        if !text.ends_with("\r\n\r\n") || text.to_ascii_lowercase().contains(REQUEST_ID.as_str()) {
            return None;
        }
        let (code, detail) = match (status, self.raw) {
            (StatusCode::BAD_REQUEST, Some(raw)) => {
                let raw_character = char::from(raw);
                let detail =
                    format!("The URL has a {raw_character} in it: write it as %{raw:02X}.");
                ("bad_request", detail.into())
            }
            (StatusCode::BAD_REQUEST, None) => (
                "bad_request",
                Cow::from(
                    "This is not an HTTP request. Its lines must end with CR LF, and headers must be as RFC 9112 says.",
                ),
            ),
            (StatusCode::URI_TOO_LONG, _) => (
                "target_too_long",
                "The path and its query are too long.".into(),
            ),
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, _) => (
                "headers_too_large",
                "The headers are too many or too long.".into(),
            ),
            _ => return None,
        };
        Some(Problem::new(status, code, detail))
    }

    /// The part that comes after this line, or nothing if it is not clear how long the body is.
    fn after(&mut self, line: &[u8]) -> Option<Part> {
        let text = str::from_utf8(line).unwrap_or_default();
        let number = |text: &str, radix| {
            let number = usize::from_str_radix(text.trim(), radix).ok();
            number.filter(|_| line.len() < LINE)
        };
        Some(match self.part {
            Part::Start if text.starts_with("PRI ") => Part::Over,
            Part::Start if !line.is_empty() => {
                let is_raw = |byte: &&u8| matches!(byte, b'"' | b'<' | b'>' | b'`');
                // Only the first one counts: the HTTP library refuses that request, whatever follows it.
                self.raw = self.raw.or(line.iter().find(is_raw).copied());
                Part::Head
            }
            Part::Head if !line.is_empty() => {
                let (name, value) = text.split_once(':').unwrap_or_default();
                if name.eq_ignore_ascii_case("content-length") {
                    self.length = Some(number(value, 10)?);
                }
                self.is_chunked |= name.eq_ignore_ascii_case("transfer-encoding");
                Part::Head
            }
            Part::Head => {
                match (take(&mut self.length), take(&mut self.is_chunked)) {
                    // One server may use the length, and another the chunks (RFC 9112, section 6.1).
                    (Some(_), true) => return None,
                    (None, true) => Part::Chunks,
                    (length, false) => {
                        self.body = length.unwrap_or_default();
                        Part::Start
                    }
                }
            }
            Part::Chunks => match number(text.split(';').next()?, 16)? {
                0 => Part::Trailers,
                size => {
                    // A line break ends the chunk.
                    self.body = size.checked_add(2)?;
                    Part::Chunks
                }
            },
            Part::Trailers if !line.is_empty() => Part::Trailers,
            Part::Start | Part::Trailers => Part::Start,
            Part::Over => Part::Over,
        })
    }
}

/// An answer that ends the connection, for a request that no operation has seen.
pub fn refusal(problem: &Problem) -> Bytes {
    let id = request_id();
    let status = problem.http_status();
    let retry = problem.retry_after();
    let retry = retry.map(|seconds| format!("retry-after: {seconds}\r\n"));
    let body = problem.document(id.clone()).to_string();
    tracing::info!(request_id = id, status = status.as_u16(), %problem);
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\n{REQUEST_ID}: {id}\r\n{}connection: close\r\n\r\n{body}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
        retry.unwrap_or_default(),
    )
    .into()
}
