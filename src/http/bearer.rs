//! The bearer of a request (RFC 6750), as a security scheme of the OpenAPI document.

use poem::{Request, RequestBody, Result, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use crate::{auth::token::Claims, context, problem::Problem, state::State};

const SCHEME: &str = "bearer";

/// A signed-in caller. Put it before the body, so that 401 comes before 400.
pub struct SignedIn(pub Claims);

/// Any caller, known if a token was sent. A token that is sent must be valid.
pub struct Anyone(pub Option<Claims>);

/// The verified claims of a request's token, or nothing if the request has no token or only the key that every visitor
/// has.
pub fn claims(request: &Request) -> Result<Option<Claims>, Problem> {
    // `layers::limit` has verified it, and has put it there.
    if let Some(claims) = request.data::<Claims>() {
        return Ok(Some(claims.clone()));
    }
    let mut sent = request.headers().get_all(header::AUTHORIZATION).iter();
    let Some(header) = sent.next() else {
        return Ok(None);
    };
    let invalid = || {
        Problem::unauthorized(
            "invalid_token",
            "Send the access token as `Authorization: Bearer <token>`.",
        )
    };
    let (scheme, token) = header
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or_else(invalid)?;
    // Two tokens are refused: another server might take the other one.
    if !scheme.eq_ignore_ascii_case("bearer") || sent.next().is_some() {
        return Err(invalid());
    }
    let (state, token) = (State::of(request)?, token.trim());
    if token == state.config.anon_key() {
        return Ok(None);
    }
    let claims = state.auth.access.verify(token)?;
    context::note_caller(claims.sub);
    Ok(Some(claims))
}

fn register(registry: &mut Registry) {
    registry.create_security_scheme(
        SCHEME,
        MetaSecurityScheme {
            ty: "http",
            description: Some(
                "The `accessToken` of what `POST /auth/register` or `POST /auth/login` answers, without `Bearer` before \
                 it. It lasts 15 minutes; `POST /auth/refresh` gets the next one.",
            ),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: Some("JWT"),
            flows: None,
            openid_connect_url: None,
        },
    );
}

impl<'a> ApiExtractor<'a> for SignedIn {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let missing =
            || Problem::unauthorized("missing_token", "Send an access token: log in to get one.");
        Ok(SignedIn(claims(request)?.ok_or_else(missing)?))
    }
}

impl<'a> ApiExtractor<'a> for Anyone {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    fn has_security_fallback() -> bool {
        true
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        Ok(Anyone(claims(request)?))
    }
}
