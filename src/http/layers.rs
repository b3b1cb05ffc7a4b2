//! The layers around the operations. `router` puts them in order, with a reason for each place.
//!
//! The timeout of `tower-http` for bodies begins anew with each piece, so a client that sends a byte now and then is
//! never cut off. Here `limit_time` bounds the whole request, and `connection` the time in which nothing of an answer
//! is sent.

use std::{sync::Arc, time::Duration};

use http_body_util::combinators::BoxBody;
use poem::{
    Body, Endpoint, EndpointExt, IntoResponse, Request, Response, Result,
    endpoint::BoxEndpoint,
    error::MethodNotAllowedError,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, uri::Authority,
    },
    middleware::Cors,
};
use poem_openapi::OperationId;

use super::{
    bearer,
    respond::{RATE_LIMIT, RATE_LIMIT_POLICY},
};
use crate::{
    api::BASE,
    limits::shares::Unread,
    openapi::Contract,
    problem::{Problem, REQUEST_ID},
    state::State,
};

/// Redeeming a refresh token is limited by sign-in alone, so that a client in the same network cannot use up the limit
/// and so sign people out.
const REFRESH: &str = "/auth/refresh";

/// Limits every request: by user if its token is valid, otherwise by network.
pub async fn limit<E: Endpoint>(endpoint: Arc<E>, mut request: Request) -> Result<Response> {
    let limits = &State::of(&request)?.limits;
    match bearer::claims(&request) {
        Ok(Some(claims)) => {
            limits.user.check(&claims.sub)?;
            // The operation need not verify the token again.
            request.set_data(claims);
        }
        _ if request.uri().path() == REFRESH => {}
        _ => limits.network.check(limits.client(&request))?,
    }
    Ok(endpoint.call(request).await?.into_response())
}

/// Refuses a request that two servers on its way might read in different ways (RFC 9112, sections 3.2 and 6.1).
pub async fn refuse_ambiguous<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    let refuse = |detail| Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail);
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    let is_host = |host: &HeaderValue| {
        let host = host.to_str().ok();
        let host = host.and_then(|host| host.parse::<Authority>().ok());
        host.is_some_and(|host| !host.as_str().contains('@') && !host.host().is_empty())
    };
    if hosts.next().is_some() || !host.is_none_or(is_host) {
        return Err(refuse("Send one header `Host`, with a host and, if needed, a port.").into());
    }
    // HTTP/2 names the host in the target.
    if host.is_none() && request.version() == Version::HTTP_11 {
        return Err(refuse("Send the header `Host`, as HTTP/1.1 requires.").into());
    }
    // The HTTP library drops a `Content-Length` beside `Transfer-Encoding`, as RFC 9112 demands.
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(refuse("Send `Transfer-Encoding: chunked` once, or `Content-Length`.").into());
    }
    Ok(endpoint.call(request).await?.into_response())
}

/// Refuses an answer if the caller's unread answers would hold too much of the service's memory.
pub async fn limit_answers<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    let state = State::of(&request)?.clone();
    let answers = &state.limits.answers;
    let caller = answers.caller(request.data(), state.limits.client(&request));
    let mut response = endpoint.call(request).await?.into_response();
    let bytes = response.take_body().into_bytes().await?;
    response.set_body(match answers.hold(Some(caller), bytes.len())? {
        None => Body::from(bytes),
        Some(held) => Body::from(BoxBody::new(Unread::new(bytes, Some(held)))),
    });
    Ok(response)
}

/// Adds facts to a refusal that only the contract knows: the methods of a path (405), and the form of a parameter.
pub async fn explain<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    let contract = request.data::<Arc<Contract>>().cloned();
    let uri = request.uri().clone();
    if let (Some(contract), Some(path)) = (&contract, uri.path().strip_prefix(BASE)) {
        let query = uri.query().unwrap_or_default();
        contract.check_text(path, query)?;
        contract.check_names(path, request.method(), query)?;
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

/// Refuses compressed bodies. Bodies here are small, and unpacking a hostile one would take a second (RFC 7694).
pub async fn refuse_packed<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
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

/// Answers a request that takes too long. PostgreSQL cancels its statement earlier.
pub async fn limit_time<E: Endpoint>(endpoint: Arc<E>, request: Request) -> Result<Response> {
    let limit = Duration::from_secs(State::of(&request)?.config.request_timeout);
    let answer = tokio::time::timeout(limit, endpoint.call(request))
        .await
        .map_err(|_| Problem::timeout("This request took too long and was given up. Try again."))?;
    Ok(answer?.into_response())
}

/// Adds headers that keep a browser from taking an answer for something else (OWASP REST Security Cheat Sheet).
pub async fn add_security_headers<E: Endpoint>(
    endpoint: Arc<E>,
    request: Request,
) -> Result<Response> {
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
    // Clients may keep an answer with a tag and ask for it again. Any other answer is for one user, unless PostgREST
    // says otherwise.
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

/// Lets pages of the listed origins call the API (the Fetch standard's CORS protocol). Other origins get no permission.
/// The service's own pages need none.
pub fn share_with(origins: &[String], endpoint: BoxEndpoint<'static>) -> BoxEndpoint<'static> {
    let given = origins.iter().filter(|origin| !origin.is_empty());
    let origins: Vec<_> = given.cloned().collect();
    let endpoint = Arc::new(endpoint);
    let exposed = [
        REQUEST_ID,
        header::ETAG,
        header::RETRY_AFTER,
        header::LOCATION,
        // The answers of PostgREST have these headers.
        header::CONTENT_RANGE,
        RATE_LIMIT,
        RATE_LIMIT_POLICY,
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
