//! The way to PostgREST: requests are passed on and answers passed back, streamed both ways.

use std::{
    fmt, io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::Context as _;
use http_body_util::{BodyExt, LengthLimitError, Limited, combinators::BoxBody};
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use percent_encoding::percent_decode_str;
use poem::{
    Body, Request, Response,
    error::NotFoundError,
    http::{self, HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, response},
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep},
};
use url::Url;

use crate::{
    config::Config,
    context,
    db::connect,
    error::{describe, is_caused_by},
    limits::shares::{Held, PIECE, Shares, Unread},
    problem::{Problem, REQUEST_ID},
};

/// The path beneath which PostgREST answers. It is the same on Supabase.
pub const BASE: &str = "/rest/v1";
/// A larger body is refused. Our own tables take no writes; other tables of the project may take many rows at once.
const BODY_LIMIT: usize = 10 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of the part of an answer that is held while the client does not read.
const UNREAD: usize = 512 * 1024;
/// The time that idle connections are kept. It is shorter than that of servers and load balancers.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

const API_KEY: HeaderName = HeaderName::from_static("apikey");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The header with the id of the request whose caller `check_request` has admitted, in the transaction of the read.
pub const ADMITTED: HeaderName = HeaderName::from_static("speedcoding-admitted");

/// Headers between two neighbours only (RFC 9110, section 7.6.1). `Connection` may name more.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Headers in which a client claims what only proxies know, and headers that the service sets itself.
const NOT_PASSED_ON: [HeaderName; 7] = [
    header::HOST,
    header::EXPECT,
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
    API_KEY,
];
/// Headers of an answer that are for the service, or about the upstream's own address.
const NOT_PASSED_BACK: [HeaderName; 9] = [
    ADMITTED,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
];

const IN_FLIGHT: &str = "postgrest_requests_in_flight";

type Outgoing = Limited<BoxBody<Bytes, io::Error>>;

/// The way to PostgREST.
pub struct Delegate {
    client: Client<HttpsConnector<HttpConnector>, Outgoing>,
    /// The URL without a slash at its end, or none if no PostgREST is known.
    upstream: Option<String>,
    api_key: Option<HeaderValue>,
    patience: Duration,
    /// Whether PostgREST checked the last caller itself. Then the service does not look up the next one first.
    judges: AtomicBool,
}

impl Delegate {
    /// Makes the way to PostgREST from the settings. It connects to nothing yet.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let upstream = upstream(config)?;
        let is_https = upstream.as_ref().is_some_and(|url| url.scheme() == "https");
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(connect::https(is_https)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Delegate {
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .http1_max_buf_size(PIECE)
                .build(https),
            upstream: upstream.map(|url| url.as_str().trim_end_matches('/').to_owned()),
            api_key: config
                .supabase_anon_key
                .as_deref()
                .map(HeaderValue::from_str)
                .transpose()
                .context("SUPABASE_ANON_KEY")?,
            patience: Duration::from_secs(config.request_timeout),
            judges: AtomicBool::new(false),
        })
    }

    /// Asks a question of our own, such as `/users?limit=1`.
    pub async fn ask(&self, question: &str, token: Option<&str>) -> Result<Answered, Problem> {
        let uri = format!("{BASE}{question}").parse::<Uri>();
        let mut request = http::Request::new(Limited::new(BoxBody::from(Body::empty()), 0));
        *request.uri_mut() = self.uri(&uri.map_err(Problem::internal)?)?;
        let token = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}")));
        if let Some(token) = token.transpose().map_err(Problem::internal)? {
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        if let Some(key) = &self.api_key {
            request.headers_mut().insert(API_KEY, key.clone());
        }
        let asked = async {
            let response = self.client.request(request).await.map_err(refused)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, BODY_LIMIT).collect().await;
            let body = body
                .map_err(|error| unavailable().because(error))?
                .to_bytes();
            Ok::<_, Problem>((parts, body))
        };
        let (parts, body) = tokio::time::timeout(self.patience, asked)
            .await
            .map_err(|_| timed_out())??;
        let date = parts.headers.get(header::DATE);
        Ok(Answered {
            status: parts.status.as_u16(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            date: date.and_then(|date| OffsetDateTime::parse(date.to_str().ok()?, &Rfc2822).ok()),
        })
    }

    /// Whether PostgREST's last answer to a caller showed that PostgREST checks callers itself.
    pub fn judges_readers(&self) -> bool {
        self.judges.load(Ordering::Relaxed)
    }

    /// Remembers what the last answer to a caller showed.
    pub fn note_judging(&self, judges: bool) {
        self.judges.store(judges, Ordering::Relaxed);
    }

    /// Passes a request on. The answer's body is not read yet. The turn ends when the answer begins or the wait for it
    /// times out. It does not end when the client leaves, because PostgREST goes on with a query that it has begun.
    pub async fn send(
        &self,
        request: Request,
        uri: Uri,
        client: IpAddr,
        turn: OwnedSemaphorePermit,
    ) -> Result<http::Response<Incoming>, Problem> {
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > BODY_LIMIT as u64) {
            return Err(too_large());
        }
        let outgoing = self.request(request, uri, client);
        let answer = tokio::time::timeout(self.patience, self.client.request(outgoing));
        let answer = tokio::spawn(async move {
            let _turn = turn;
            let mut asking = Asking::new();
            let outcome = answer
                .await
                .map_err(|_| timed_out())
                .and_then(|outcome| outcome.map_err(refused));
            asking.note(&outcome);
            outcome
        });
        answer.await.map_err(Problem::internal)?
    }

    /// The URL for a request, or why there is none.
    pub fn uri(&self, uri: &Uri) -> Result<Uri, Problem> {
        let path = beneath(uri.path()).ok_or_else(|| poem::Error::from(NotFoundError))?;
        let Some(upstream) = &self.upstream else {
            return Err(Problem::new(
                StatusCode::NOT_IMPLEMENTED,
                "postgrest_missing",
                "The service has no PostgREST. Put `postgrest` or `postrust` on PATH and start again, or set \
                 POSTGREST_URL or SUPABASE_URL.",
            ));
        };
        let query = uri.query().map(|query| format!("?{query}"));
        format!("{upstream}{path}{}", query.unwrap_or_default())
            .parse()
            .map_err(Problem::internal)
    }

    /// An address at PostgREST as clients of the service reach it, or none if it is somewhere else.
    fn here(&self, there: &HeaderValue) -> Option<HeaderValue> {
        let (there, upstream) = (there.to_str().ok()?, self.upstream.as_deref()?);
        let path = upstream
            .splitn(4, '/')
            .nth(3)
            .map_or(String::new(), |path| format!("/{path}"));
        let is_path = |rest: &&str| rest.is_empty() || rest.starts_with(['/', '?']);
        let beneath = there.strip_prefix(upstream).filter(is_path);
        let beneath = beneath.or_else(|| {
            let is_local = there.starts_with('/') && !there.starts_with("//");
            let rest = there
                .strip_prefix(&*path)
                .filter(|rest| rest.starts_with('/'));
            is_local.then_some(rest.unwrap_or(there))
        })?;
        HeaderValue::try_from(format!("{BASE}{beneath}")).ok()
    }

    fn request(&self, mut request: Request, uri: Uri, client: IpAddr) -> http::Request<Outgoing> {
        let is_root = is_root(request.uri().path());
        let body = BoxBody::from(request.take_body());
        let mut outgoing = http::Request::new(Limited::new(body, BODY_LIMIT));
        *outgoing.method_mut() = request.method().clone();
        *outgoing.uri_mut() = uri;
        let headers = outgoing.headers_mut();
        *headers = std::mem::take(request.headers_mut());
        drop_hop_by_hop(headers);
        for name in NOT_PASSED_ON {
            headers.remove(name);
        }
        if is_root {
            // The service reads this answer itself, so PostgREST must not pack it.
            headers.remove(header::ACCEPT_ENCODING);
        }
        let ours = [
            (
                REQUEST_ID,
                HeaderValue::from_str(&context::request_id()).ok(),
            ),
            (
                FORWARDED_FOR,
                HeaderValue::from_str(&client.to_string()).ok(),
            ),
            (API_KEY, self.api_key.clone()),
        ];
        for (name, value) in ours {
            headers.remove(&name);
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        outgoing
    }

    /// Turns an answer of PostgREST into one of the service. The unread part of the answer counts for the caller.
    pub async fn response(
        &self,
        response: http::Response<Incoming>,
        asked: &Asked,
        answers: &Arc<Shares>,
    ) -> Result<Response, Problem> {
        let (mut parts, body) = response.into_parts();
        // The service offers no other protocol, so a server that switches to one is not PostgREST.
        if parts.status.is_informational() {
            return Err(unavailable().because("the upstream switches protocols"));
        }
        drop_hop_by_hop(&mut parts.headers);
        for name in NOT_PASSED_BACK {
            parts.headers.remove(name);
        }
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            if let Some(here) = parts.headers.get(&name).and_then(|there| self.here(there)) {
                parts.headers.insert(name, here);
            }
        }
        if asked.is_root {
            // The service changes this document, and so its length.
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        let body = if asked.is_to_correct(parts.status) {
            let body =
                tokio::time::timeout(self.patience, Limited::new(body, BODY_LIMIT).collect());
            let body = body.await.map_err(|_| timed_out())?;
            let body = body.map_err(|error| unavailable().because(error))?;
            let body = asked.correct(&mut parts, body.to_bytes())?;
            let held = answers.hold(Some(asked.caller), body.len())?;
            BoxBody::new(Unread::new(body, held))
        } else {
            let size = body.size_hint().exact().unwrap_or(u64::MAX);
            let unread = usize::try_from(size).unwrap_or(UNREAD).min(UNREAD);
            let held = answers.hold(Some(asked.caller), unread)?;
            BoxBody::new(Patient::new(body, self.patience, held))
        };
        let mut response = Response::builder()
            .status(parts.status)
            .body(Body::from(body));
        *response.headers_mut() = parts.headers;
        Ok(response)
    }
}

/// The facts about a request that the service needs to correct its answer.
pub struct Asked {
    /// The caller, whose share of the memory of answers is counted.
    caller: usize,
    /// Whether the request has a token. The service has verified it.
    has_token: bool,
    /// Whether the request is for the document of PostgREST's root.
    is_root: bool,
    /// Whether the request would change a table or a view.
    is_write: bool,
}

impl Asked {
    /// Takes the facts from a request whose caller is known.
    pub fn new(request: &Request, has_token: bool, caller: usize) -> Self {
        let path = request.uri().path();
        let is_read = request.method().is_safe();
        Asked {
            caller,
            has_token,
            is_root: is_root(path),
            is_write: !is_read && !path.contains("/rpc/"),
        }
    }

    /// Whether an answer of this status may be wrong.
    fn is_to_correct(&self, status: StatusCode) -> bool {
        match status {
            StatusCode::OK => self.is_root,
            StatusCode::UNAUTHORIZED => self.has_token,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::INTERNAL_SERVER_ERROR => self.is_write,
            _ => false,
        }
    }

    /// Corrects an answer.
    fn correct(&self, parts: &mut response::Parts, body: Bytes) -> Result<Bytes, Problem> {
        let Ok(mut said) = serde_json::from_slice::<Value>(&body) else {
            return Ok(body);
        };
        let code = said.get("code").and_then(Value::as_str);
        match (parts.status, code) {
            // The document names the address at which PostgREST listens. Without an address, clients use the address of
            // the document itself.
            (StatusCode::OK, _) if said.get("swagger").is_some() => {
                if let Some(members) = said.as_object_mut() {
                    members.remove("host");
                    members.remove("schemes");
                    members.insert("basePath".to_owned(), BASE.into());
                }
                return Ok(said.to_string().into());
            }
            // PostgreSQL cannot change this view. PostgREST reports that as a defect.
            (_, Some("55000")) => {
                let detail = "This view can only be read.";
                return Err(Problem::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method_not_allowed",
                    detail,
                )
                .allowing("GET, HEAD, OPTIONS".to_owned()));
            }
            // The token is valid, but this user may not do that (RFC 9110, section 15.5.4). postrust takes every user
            // for a visitor.
            (StatusCode::UNAUTHORIZED, Some("42501")) => {
                parts.status = StatusCode::FORBIDDEN;
                parts.headers.remove(header::WWW_AUTHENTICATE);
            }
            _ => {}
        }
        Ok(body)
    }
}

/// A request that PostgREST has not answered yet. Its end is counted even if the client does not wait for it.
struct Asking {
    since: Instant,
    answer: &'static str,
}

impl Asking {
    fn new() -> Self {
        metrics::gauge!(IN_FLIGHT).increment(1);
        Asking {
            since: Instant::now(),
            answer: "aborted",
        }
    }

    fn note(&mut self, outcome: &Result<http::Response<Incoming>, Problem>) {
        let status = match outcome {
            Ok(response) => response.status(),
            Err(problem) => problem.http_status(),
        };
        self.answer = match (outcome, status.as_u16()) {
            (Ok(_), ..300) => "2xx",
            (Ok(_), ..400) => "3xx",
            (Ok(_), ..500) => "4xx",
            (Ok(_), _) => "5xx",
            (Err(_), 502) => "unreachable",
            (Err(_), 504) => "timeout",
            // The client's body was too large, or ended early.
            (Err(_), _) => "aborted",
        };
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        metrics::gauge!(IN_FLIGHT).decrement(1);
        metrics::counter!("postgrest_requests_total", "answer" => self.answer).increment(1);
        metrics::histogram!("postgrest_request_duration_seconds").record(self.since.elapsed());
    }
}

/// An answer of PostgREST to a question of the service.
pub struct Answered {
    pub status: u16,
    /// The body, or null if it is not JSON.
    pub body: Value,
    /// The time by PostgREST's clock.
    pub date: Option<OffsetDateTime>,
}

impl Answered {
    /// The code of an error.
    pub fn code(&self) -> &str {
        self.member("code")
    }

    /// The message of an error.
    pub fn message(&self) -> &str {
        self.member("message")
    }

    fn member(&self, name: &str) -> &str {
        self.body
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        let told = [self.code(), self.message()];
        let mut told = told.into_iter().filter(|text| !text.is_empty());
        told.try_for_each(|text| write!(f, " {text}"))
    }
}

/// The URL of PostgREST, from its own setting or as part of a Supabase project.
pub fn upstream(config: &Config) -> anyhow::Result<Option<Url>> {
    let (setting, url) = match (&config.postgrest_url, &config.supabase_url) {
        (Some(url), _) => ("POSTGREST_URL", url.clone()),
        (None, Some(project)) => {
            anyhow::ensure!(
                config.supabase_anon_key.is_some(),
                "SUPABASE_ANON_KEY is needed with SUPABASE_URL: the project's publishable (anon) key, which its \
                 PostgREST asks for"
            );
            let mut url = project.clone();
            url.set_path(&format!("{}{BASE}", project.path().trim_end_matches('/')));
            ("SUPABASE_URL", url)
        }
        (None, None) => return Ok(None),
    };
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    anyhow::ensure!(
        is_plain,
        "{setting} must be a plain URL such as https://project.supabase.co or http://127.0.0.1:3000"
    );
    Ok(Some(url))
}

/// Whether a path is PostgREST's root.
fn is_root(path: &str) -> bool {
    matches!(path.strip_prefix(BASE), Some("" | "/"))
}

/// Whether a request is for PostgREST.
pub fn is_beneath(path: &str) -> bool {
    path.strip_prefix(BASE)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path beneath PostgREST's root: nothing, a relation, or `rpc/` and a function. It has no dots, slashes or escapes
/// in disguise, so that every server on the way reads it alike.
fn beneath(path: &str) -> Option<&str> {
    let path = path.strip_prefix(BASE)?;
    let segments: Vec<_> = path.split('/').skip(1).collect();
    let is_named = |segment: &str| {
        let Ok(name) = percent_decode_str(segment).decode_utf8() else {
            return false;
        };
        !matches!(&*name, "" | "." | "..")
            && !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\' | ';' | '%'))
    };
    let is_known = match segments.as_slice() {
        [] | [""] => true,
        [relation] => is_named(relation),
        ["rpc", function] => is_named(function),
        _ => false,
    };
    is_known.then_some(path)
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // By naming them in `Connection`, a client cannot make the service drop its token or the length of its body.
        .filter(|name| *name != header::AUTHORIZATION && *name != header::CONTENT_LENGTH)
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

fn unavailable() -> Problem {
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "upstream_unavailable",
        "PostgREST cannot be reached. Try again in a moment.",
    )
}

fn timed_out() -> Problem {
    Problem::new(
        StatusCode::GATEWAY_TIMEOUT,
        "upstream_timeout",
        "PostgREST did not answer in time. Try again, or ask for less.",
    )
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        "The body is larger than 10 MiB.",
    )
}

/// The problem for a request without an answer. The request's body failed, or the upstream did.
fn refused(error: hyper_util::client::legacy::Error) -> Problem {
    if is_caused_by(&error, |_: &LengthLimitError| true) {
        return too_large();
    }
    let problem = if is_caused_by(&error, hyper::Error::is_user) {
        Problem::malformed("The body cannot be read.")
    } else if is_caused_by(&error, |error: &io::Error| {
        error.kind() == io::ErrorKind::TimedOut
    }) {
        timed_out()
    } else {
        unavailable()
    };
    problem.because(describe(&error))
}

/// Drops the client's connection, so that the client does not take a part of the answer for all of it. (An error is not
/// enough: poem polls a failed connection once more, and hyper then ends the body in good order.) The log shows no
/// panic.
fn break_off() -> ! {
    std::panic::resume_unwind(Box::new("a body broke off"))
}

/// The body of an answer. It breaks off if PostgREST sends nothing for too long. The time in which the client does not
/// read does not count.
struct Patient {
    body: Incoming,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    waits: bool,
    _held: Option<Held>,
}

impl Patient {
    fn new(body: Incoming, patience: Duration, held: Option<Held>) -> Self {
        Patient {
            body,
            patience,
            deadline: Box::pin(sleep(patience)),
            waits: false,
            _held: held,
        }
    }
}

impl HttpBody for Patient {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.waits = false;
            return Poll::Ready(
                frame
                    .transpose()
                    .unwrap_or_else(|error| {
                        tracing::warn!("PostgREST broke off: {}", describe(&error));
                        break_off()
                    })
                    .map(Ok),
            );
        }
        if !self.waits {
            self.waits = true;
            let deadline = Instant::now() + self.patience;
            self.deadline.as_mut().reset(deadline);
        }
        ready!(self.deadline.as_mut().poll(context));
        tracing::warn!("PostgREST fell silent");
        break_off()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
