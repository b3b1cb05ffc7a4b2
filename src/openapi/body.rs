//! JSON bodies: a request body is checked against the document, and an answer is written by serde.

use std::sync::Arc;

use hyper::body::Bytes;
use poem::{
    IntoResponse, Request, RequestBody, Response, Result,
    error::ReadBodyError,
    http::{StatusCode, header},
};
use poem_openapi::{
    ApiExtractor,
    ApiExtractorType,
    ApiResponse,
    ExtractParamOptions,
    payload::Payload,
    registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    // Not `Type` by name: its `is_empty` would be taken for that of strings.
    types::{self, ParseFromJSON, ToJSON},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::Contract;
use crate::{problem::Problem, state::State};

/// Larger bodies are refused. The largest valid body has 200 packages of 214 characters, each of which may be
/// written as `\u0061`.
const BODY_LIMIT: usize = 256 * 1024;

/// The JSON body of a request: parsed, and free of mistakes.
///
/// Every mistake is reported with its field, not only the first.
pub struct Body<T>(pub T);

/// The JSON answer of an operation. poem-openapi publishes its type, and serde writes it straight into text.
/// (poem-openapi would build a tree of values first.) Debug builds, and so the tests, compare the two.
pub struct Json<T>(pub T);

impl<'a, T: ParseFromJSON + DeserializeOwned> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: "application/json",
                schema: T::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        // Refusals that need no body come first. A client that expects `100 Continue` then keeps its body.
        let is_json = request.content_type().is_some_and(is_json);
        let is_announced = match request.headers().get(header::CONTENT_LENGTH) {
            Some(length) => length != "0",
            None => request.headers().contains_key(header::TRANSFER_ENCODING),
        };
        if is_announced && !is_json {
            return Err(not_json().into());
        }
        let bytes = read(request, body.take()?).await?;
        if bytes.is_empty() {
            return Err(Problem::malformed(
                "The JSON body is missing: send one, with the header `Content-Type: application/json`.",
            )
            .into());
        }
        if !is_json {
            return Err(not_json().into());
        }
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::malformed(format!("The body is not valid JSON: {error}.")))?;
        let contract = request
            .data::<Arc<Contract>>()
            .ok_or_else(|| Problem::internal("the contract is not among the request's data"))?;
        contract.check(&T::name(), &value)?;
        // The type refuses what the document cannot express. poem-openapi's own parser is not used: it would repeat the
        // checks, and compile every pattern again for that.
        let parsed = serde_json::from_value(value).map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "The body is not valid. /docs describes it.",
            )
            .because(error)
        })?;
        Ok(Body(parsed))
    }
}

/// Reads a body up to the limit, with or without an announced length, while there is memory for it.
async fn read(request: &Request, body: poem::Body) -> Result<Bytes> {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let length = announced.unwrap_or(BODY_LIMIT);
    if length > BODY_LIMIT {
        return Err(ReadBodyError::PayloadTooLarge.into());
    }
    let limits = &State::of(request)?.limits;
    let caller = limits.bodies.caller(request.data(), limits.client(request));
    let _held = limits.bodies.hold(Some(caller), length)?;
    Ok(body.into_bytes_limit(BODY_LIMIT).await?)
}

fn not_json() -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "Send JSON, with the header `Content-Type: application/json`.",
    )
}

/// `application/json`, with or without parameters.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

impl<T: types::Type> Payload for Json<T> {
    const CONTENT_TYPE: &'static str = "application/json; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: ToJSON + Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        debug_assert_eq!(
            serde_json::to_value(&self.0).ok(),
            self.0.to_json(),
            "serde writes {} in another form than the document says",
            T::name()
        );
        match serde_json::to_vec(&self.0) {
            Ok(json) => Response::builder()
                .content_type(Self::CONTENT_TYPE)
                .body(json),
            Err(error) => Problem::internal(error).to_response(),
        }
    }
}

impl<T: ToJSON + Serialize> ApiResponse for Json<T> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: Self::CONTENT_TYPE,
                    schema: Self::schema_ref(),
                }],
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}
