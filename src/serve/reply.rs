//! Responses: bodies with their ETag, compressed where the client takes that, and errors in words.

use super::page::gzip;
use super::readers::Unanswered;
use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_NONE_MATCH, RETRY_AFTER, VARY,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use flate2::Compression;

/// Shorter bodies are not worth compressing.
const COMPRESSED_FROM: usize = 1_024;

/// Sent with rows that were cut off.
const TRUNCATED: HeaderName = HeaderName::from_static("x-truncated");

/// Where to go on, with rows that were cut off.
const NEXT: HeaderName = HeaderName::from_static("x-next");

/// The media type of JSON.
pub(super) const JSON: &str = "application/json";

/// A body, as it is or compressed.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// Its media type.
    pub media_type: &'static str,
    /// Its ETag, with quotes; none if it must not be kept.
    pub etag: Option<String>,
    /// Whether `bytes` are compressed.
    pub is_gzip: bool,
    /// Whether there are more rows: JSON says so itself, the other formats cannot.
    pub is_truncated: bool,
    /// Where the next rows begin.
    pub next: Option<HeaderValue>,
    /// The body.
    pub bytes: axum::body::Bytes,
}

impl Content {
    /// Compresses a body if that is worth it and the client takes it. It is slow for an event
    /// loop.
    pub(super) fn new(
        media_type: &'static str,
        etag: Option<String>,
        plain: Vec<u8>,
        takes_gzip: bool,
    ) -> std::io::Result<Self> {
        let is_gzip = takes_gzip && plain.len() >= COMPRESSED_FROM;
        let bytes = if is_gzip { gzip(&plain, Compression::fast())? } else { plain };
        Ok(Self { media_type, etag, is_gzip, is_truncated: false, next: None, bytes: bytes.into() })
    }

    /// A body that is short, or not to be kept.
    pub(super) fn text(media_type: &'static str, text: impl Into<axum::body::Bytes>) -> Self {
        Self {
            media_type,
            etag: None,
            is_gzip: false,
            is_truncated: false,
            next: None,
            bytes: text.into(),
        }
    }

    /// The response.
    pub(super) fn response(self) -> Response {
        let mut response = Response::new(Body::from(self.bytes));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        if self.is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if self.is_truncated {
            headers.insert(TRUNCATED, HeaderValue::from_static("true"));
        }
        self.next.map(|next| headers.insert(NEXT, next));
        keep(headers, self.etag.as_deref());
        response
    }
}

/// How long a response may be kept: always asked about again if it has an ETag, else not at all.
fn keep(headers: &mut HeaderMap, etag: Option<&str>) {
    let etag = etag.and_then(|etag| HeaderValue::from_str(etag).ok());
    let rule = if etag.is_some() { "private, no-cache" } else { "no-store" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(rule));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding, authorization"));
    etag.map(|etag| headers.insert(ETAG, etag));
}

/// Whether the client takes gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight
            .trim()
            .strip_prefix("q=")
            .is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q == 0.0));
        matches!(name.trim(), "gzip" | "*") && !refused
    })
}

/// The response to a client that has this version already.
pub(super) fn not_modified(headers: &HeaderMap, etag: &str) -> Option<Response> {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == "*" || opaque(tag) == opaque(etag));
    is_known.then(|| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        keep(response.headers_mut(), Some(etag));
        response
    })
}

/// An error: what is wrong and what to do.
pub(super) fn error(status: StatusCode, reason: &str) -> Response {
    let body = serde_json::json!({ "error": reason }).to_string();
    let mut response = Content::text(JSON, body).response();
    *response.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Why a question has no answer.
pub(super) fn unanswered(why: &Unanswered) -> Response {
    let status = match why {
        Unanswered::Failed(error) => {
            tracing::warn!("a query failed: {error:#}");
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Unanswered::OtherVersion(error) => {
            tracing::warn!("the published file seems to be of another version: {error:#}");
            StatusCode::SERVICE_UNAVAILABLE
        }
        Unanswered::TooMuch => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    error(status, &why.to_string())
}
