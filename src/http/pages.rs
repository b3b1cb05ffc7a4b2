//! Pages that are the same for everybody: Swagger UI and the document.

use std::{io::Write as _, sync::OnceLock};

use flate2::write::GzEncoder;
use hyper::body::Bytes;
use poem::{
    Endpoint, IntoResponse, Response,
    endpoint::make_sync,
    http::{HeaderMap, header},
    web::Redirect,
};
use poem_openapi::{OpenApi, OpenApiService};

use crate::openapi::Contract;

/// Swagger UI, with the document that requests are checked against instead of the one that poem-openapi makes.
pub fn docs(service: &OpenApiService<impl OpenApi, ()>, contract: &Contract) -> String {
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

#[poem::handler]
pub fn redirect_to_docs() -> Response {
    Redirect::temporary("/docs").into_response()
}

/// A page that is the same for everybody. It is packed once, when it is first asked for, and shared. Many requests for
/// it cost no more than sending it.
pub fn page(text: String, content_type: &'static str) -> impl Endpoint {
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

/// Whether the client takes gzip, in the form in which browsers and tools say so. A client that gives gzip a weight
/// (RFC 9110, section 12.5.3) gets the unpacked page.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("gzip"))
}
