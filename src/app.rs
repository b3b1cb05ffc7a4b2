//! The service put together: state, routes, middleware.

use std::{
    io::Write as _,
    net::TcpListener,
    sync::{Arc, OnceLock},
    time::Duration,
};

use flate2::write::GzEncoder;
use hyper::body::Bytes;
use poem::{
    Endpoint, EndpointExt, IntoResponse, Request, Response, Result, Route, Server,
    endpoint::{BoxEndpoint, make_sync},
    error::MethodNotAllowedError,
    get,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    listener::TcpAcceptor,
    middleware::{CatchPanic, Compression, Cors},
    web::Redirect,
};
use poem_openapi::{ContactObject, LicenseObject, OpenApi, OpenApiService, OperationId};
use tracing::info;

use crate::{
    api::{
        account::AccountApi, auth::AuthApi, challenges::ChallengesApi, health, jwks,
        leaderboards::LeaderboardsApi, milestones::MilestonesApi, sessions::SessionsApi,
        sign_ins::SignInsApi, submissions::SubmissionsApi, users::UsersApi,
    },
    auth::Auth,
    config::Config,
    connection::Attended,
    contract::Contract,
    db::Db,
    limits::{self, Limits},
    postgrest::{self, Delegate},
    problem::{Problem, REQUEST_ID},
    sweep, telemetry,
};

/// Where the API begins.
pub const BASE: &str = "/api/v1";
/// Larger bodies are refused: the largest that is valid has 200 packages of 214 characters, each of which may be written
/// as `\u0061`.
const BODY_LIMIT: usize = 256 * 1024;
/// So many requests at once on one HTTP/2 connection.
const STREAMS: u32 = 200;

/// What every request may use.
pub struct State {
    pub auth: Auth,
    pub db: Db,
    pub limits: Limits,
    pub delegate: Delegate,
    pub config: Config,
}

impl State {
    /// The state that a request is served with.
    pub fn of(request: &Request) -> Result<&Arc<Self>, Problem> {
        request
            .data()
            .ok_or_else(|| Problem::internal("the state is not among the request's data"))
    }
}

/// The service, ready to listen.
pub struct App {
    endpoint: BoxEndpoint<'static>,
    db: Db,
    sweep_interval: Duration,
    shutdown_timeout: Duration,
    /// A connection on which we have nothing to say for so long is closed; longer than any request may take.
    patience: Duration,
}

impl App {
    /// Puts the service together on a database that is migrated.
    pub fn build(config: &Config, auth: Auth, db: Db) -> anyhow::Result<Self> {
        let state = State {
            limits: Limits::new(config, &auth)?,
            auth,
            db: db.clone(),
            delegate: Delegate::new(config)?,
            config: config.clone(),
        };
        let service = service();
        let contract = Arc::new(Contract::of(&service)?);
        let docs = docs(&service, &contract);
        let (json, yaml) = (contract.json(), contract.yaml()?);

        let api = service
            .around(limit_body)
            .around(limit_time)
            .around(limits::limit_answers)
            .around(limits::limit)
            .with(Compression::new())
            .around(refuse_packed);
        let routes = Route::new()
            .nest(BASE, api)
            .at("/", get(redirect_to_docs))
            .at("/docs", get(page(docs, "text/html; charset=utf-8")))
            .at("/docs/", get(redirect_to_docs))
            .at("/openapi.json", get(page(json, "application/json")))
            .at("/openapi.yaml", get(page(yaml, "application/yaml")))
            .at("/.well-known/jwks.json", get(jwks::show))
            .at("/health/live", get(health::live))
            .at("/health/ready", get(health::ready))
            .around(explain);
        // From the innermost layer to the outermost.
        let delegate = poem::endpoint::make(postgrest::delegate).around(limits::limit);
        let delegate = Arc::new(delegate);
        let answering = routes
            .around(move |routes, request| pass(delegate.clone(), routes, request))
            .data(Arc::new(state))
            .data(contract)
            .with(
                CatchPanic::new()
                    .with_handler(|_| Problem::internal("a handler panicked").to_response()),
            )
            .around(telemetry::answer_errors)
            .around(add_security_headers);
        let endpoint = share_with(&config.cors_origins, answering.boxed())
            .around(telemetry::respond)
            .boxed();
        Ok(App {
            endpoint,
            db,
            sweep_interval: Duration::from_secs(config.sweep_interval),
            shutdown_timeout: Duration::from_secs(config.shutdown_timeout),
            patience: Duration::from_secs(config.request_timeout + 30),
        })
    }

    /// Serves until `shutdown`, then lets what is under way finish.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        listener.set_nonblocking(true)?;
        let acceptor = Attended::new(TcpAcceptor::from_std(listener)?, self.patience);
        let serving = Server::new_with_acceptor(acceptor)
            // Without this there is no limit.
            .http2_max_concurrent_streams(STREAMS)
            .run_with_graceful_shutdown(self.endpoint, shutdown, Some(self.shutdown_timeout));
        tokio::select! {
            served = serving => Ok(served?),
            never = sweep::run(&self.db, self.sweep_interval) => match never {},
        }
    }
}

/// Shows metrics at `/metrics`, for as long as the process runs.
pub fn serve_metrics(
    listener: TcpListener,
) -> anyhow::Result<impl Future<Output = std::io::Result<()>>> {
    let metrics = telemetry::collect_metrics()?;
    listener.set_nonblocking(true)?;
    info!("metrics are at http://{}/metrics", listener.local_addr()?);
    let acceptor = TcpAcceptor::from_std(listener)?;
    let show = make_sync(move |_| {
        Response::builder()
            .content_type("text/plain; version=0.0.4")
            .body(metrics.render())
    });
    Ok(Server::new_with_acceptor(acceptor).run(Route::new().at("/metrics", get(show))))
}

/// The OpenAPI document as YAML: `openapi/openapi.yaml`.
pub fn openapi() -> anyhow::Result<String> {
    Contract::of(&service())?.yaml()
}

fn service() -> OpenApiService<impl OpenApi, ()> {
    // In the order in which a newcomer meets them.
    let apis = (
        AuthApi,
        AccountApi,
        SignInsApi,
        ChallengesApi,
        SessionsApi,
        MilestonesApi,
        SubmissionsApi,
        LeaderboardsApi,
        UsersApi,
    );
    OpenApiService::new(apis, "SpeedCoding", env!("CARGO_PKG_VERSION"))
        .description(
            "The backend on which developers speedrun building software: start a timed session, pass its \
             milestones, end it, hand it in.\n\n\
             To try it here: `POST /auth/register` with a name of your own (that of the example is soon taken), copy \
             `accessToken` from the answer, press *Authorize* and paste it. The `id` that `POST /sessions/start` \
             answers with goes into `sessionId` wherever a body has one. A refusal is a problem (RFC 9457): decide \
             by its `code`. Every answer has the header \
             `X-Request-Id`, which names the request in the log.",
        )
        .contact(ContactObject::new().name("The maintainers of SpeedCoding"))
        .license(LicenseObject::new("MIT OR Apache-2.0").url("https://spdx.org/licenses/"))
        .server(BASE)
}

/// Swagger UI, which shows what is enforced.
fn docs(service: &OpenApiService<impl OpenApi, ()>, contract: &Contract) -> String {
    let (theirs, ours) = (service.spec(), contract.json());
    let changes = [
        (theirs.as_str(), ours.as_str()),
        (
            "<html charset=\"UTF-8\">",
            "<!doctype html><html lang=\"en\">",
        ),
        (
            "<title>Swagger UI</title>",
            "<title>SpeedCoding API</title>",
        ),
        (
            "deepLinking: true,",
            "deepLinking: true, defaultModelsExpandDepth: 0,",
        ),
    ];
    let page = service.swagger_ui_html();
    changes
        .iter()
        .fold(page, |page, (theirs, ours)| page.replacen(theirs, ours, 1))
}

/// What is PostgREST's passes as it is: neither packed nor unpacked, and no route reads its path.
async fn pass<D: Endpoint, E: Endpoint>(
    delegate: Arc<D>,
    routes: Arc<E>,
    request: Request,
) -> Result<Response> {
    if !postgrest::is_beneath(request.uri().path()) {
        return Ok(routes.call(request).await?.into_response());
    }
    let operation = OperationId("rest");
    match delegate.call(request).await {
        Ok(response) => {
            let mut response = response.into_response();
            response.set_data(operation);
            Ok(response)
        }
        Err(error) => {
            let mut error = poem::Error::from(Problem::from(error).for_postgrest_clients());
            error.set_data(operation);
            Err(error)
        }
    }
}

#[poem::handler]
fn redirect_to_docs() -> Response {
    Redirect::temporary("/docs").into_response()
}

/// What is the same for everybody: packed once, when it is first asked for, and shared. Neither asking for it often nor
/// reading none of it costs us more than sending it.
fn page(text: String, content_type: &'static str) -> impl Endpoint {
    let (plain, packed) = (Bytes::from(text), OnceLock::new());
    make_sync(move |request| {
        let response = Response::builder().content_type(content_type);
        if accepts_gzip(request.headers())
            && let Some(packed) = packed.get_or_init(|| gzip(&plain).ok())
        {
            let response = response.header(header::CONTENT_ENCODING, "gzip");
            return response.body(packed.clone());
        }
        response.body(plain.clone())
    })
}

fn gzip(text: &[u8]) -> std::io::Result<Bytes> {
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(text)?;
    Ok(packed.finish()?.into())
}

/// As browsers and tools say it; whoever gives it a weight (RFC 9110, section 12.5.3) gets what everybody can read.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("gzip"))
}

/// What only the contract knows: of a 405 which methods there are, of a parameter what it must be.
async fn explain<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    let contract = request.data::<Arc<Contract>>().cloned();
    let uri = request.uri().clone();
    if let (Some(contract), Some(path)) = (&contract, uri.path().strip_prefix(BASE)) {
        contract.check_text(path, uri.query().unwrap_or_default())?;
    }
    match endpoint.call(request).await {
        Err(error) if error.is::<MethodNotAllowedError>() => {
            let allowed = match uri.path().strip_prefix(BASE) {
                Some(path) => contract.and_then(|contract| contract.allowed(path)),
                None => Some("GET, HEAD".to_owned()),
            };
            Err(Problem::from(error)
                .allowing(allowed.unwrap_or_default())
                .into())
        }
        Err(error) => {
            let problem = contract.and_then(|contract| contract.explain(&error));
            let Some(problem) = problem else {
                return Err(error);
            };
            let mut explained = poem::Error::from(problem);
            if let Some(operation) = error.data::<OperationId>() {
                explained.set_data(*operation);
            }
            Err(explained)
        }
        Ok(answer) => Ok(answer.into_response()),
    }
}

/// Reads the body up to the limit, whether or not its length was announced.
async fn limit_body<E: Endpoint>(endpoint: Arc<E>, mut request: Request) -> Result<Response> {
    let body = request.take_body().into_bytes_limit(BODY_LIMIT).await?;
    request.set_body(body);
    Ok(endpoint.call(request).await?.into_response())
}

/// What is sent here is small, and unpacking what was made for that takes a second (RFC 7694 for the answer).
async fn refuse_packed<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Send the body as it is, without Content-Encoding.",
        )
        .into());
    }
    Ok(endpoint.call(request).await?.into_response())
}

/// A request that takes too long is answered all the same; PostgreSQL cancels its statement earlier.
async fn limit_time<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    let limit = Duration::from_secs(State::of(&request)?.config.request_timeout);
    let answer = tokio::time::timeout(limit, endpoint.call(request))
        .await
        .map_err(|_| {
            Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "This took too long and was given up: try again.",
            )
        })?;
    Ok(answer?.into_response())
}

/// What keeps a browser from making more of an answer than it is (OWASP REST Security Cheat Sheet).
async fn add_security_headers<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    // Swagger UI comes as one page with its script and style in it.
    let policy = if request.uri().path() == "/docs" {
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
         connect-src 'self'; frame-ancestors 'none'"
    } else {
        "default-src 'none'; frame-ancestors 'none'"
    };
    let mut response = endpoint.call(request).await?.into_response();
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(policy),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.append(
        header::VARY,
        HeaderValue::from_static("Origin, Accept-Encoding"),
    );
    // What has a tag may be kept and asked for again; all else is one user's, unless PostgREST says otherwise.
    let kept = if headers.contains_key(header::ETAG) {
        "no-cache"
    } else {
        "no-store"
    };
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static(kept));
    Ok(response)
}

/// Lets pages of the listed origins call the API (the Fetch standard's CORS protocol). Others get no
/// permission, which is all that it takes; our own pages need none.
fn share_with(origins: &[String], endpoint: BoxEndpoint<'static>) -> BoxEndpoint<'static> {
    let given = origins.iter().filter(|origin| !origin.is_empty());
    let origins: Vec<_> = given.cloned().collect();
    let endpoint = Arc::new(endpoint);
    let exposed = [
        REQUEST_ID,
        header::ETAG,
        header::RETRY_AFTER,
        header::LOCATION,
        // Of PostgREST's answers.
        header::CONTENT_RANGE,
        limits::RATE_LIMIT,
        limits::RATE_LIMIT_POLICY,
        header::CONTENT_LOCATION,
        HeaderName::from_static("content-profile"),
        HeaderName::from_static("preference-applied"),
    ];
    let shared = endpoint.clone().with(
        Cors::new()
            .allow_origins(origins.iter().map(String::as_str))
            .expose_headers(exposed)
            .allow_methods([
                Method::GET,
                Method::HEAD,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
            ])
            .allow_credentials(false),
    );
    let shared = Arc::new(shared);
    poem::endpoint::make(move |request: Request| {
        let (endpoint, shared) = (endpoint.clone(), shared.clone());
        let origin = request
            .headers()
            .get(header::ORIGIN)
            .and_then(|origin| origin.to_str().ok());
        let listed = origin.is_some_and(|origin| origins.iter().any(|listed| listed == origin));
        async move {
            if listed {
                shared.call(request).await
            } else {
                endpoint.call(request).await
            }
        }
    })
    .boxed()
}
