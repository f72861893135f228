//! SQL of the clients' own: each statement goes to a process that can only read.

use super::App;
use super::reply::{self, Content};
use crate::query::{Error, Format, Pool, Settings};
use anyhow::Result;
use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Sent with an answer that was cut off.
const TRUNCATED: HeaderName = HeaderName::from_static("x-truncated");

/// The workers, and how their queries ended.
pub(super) struct Sql {
    pool: Pool,
    ended: Mutex<BTreeMap<&'static str, u64>>,
}

impl Sql {
    /// Starts preparing workers.
    ///
    /// # Errors
    /// If the kernel cannot confine them.
    pub(super) fn start(root: &Path) -> Result<Self> {
        Ok(Self { pool: Pool::new(Settings::new(root))?, ended: Mutex::default() })
    }

    /// Queries that ended so far, by outcome.
    pub(super) fn ended(&self) -> BTreeMap<&'static str, u64> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, outcome: &'static str) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner).entry(outcome).or_default() += 1;
    }
}

/// `POST /api/v1/sql`: runs the statement in the body.
pub(super) async fn run(
    State(app): State<Arc<App>>,
    Query(given): Query<Vec<(String, String)>>,
    statement: String,
) -> Response {
    let Some(sql) = &app.sql else {
        return reply::error(
            StatusCode::FORBIDDEN,
            "SQL of your own is off: start the server with --sql",
        );
    };
    let format = given.iter().find(|(name, _)| name == "format");
    let format = match format.map_or("json", |(_, format)| format) {
        "json" => Format::Json,
        "csv" => Format::Csv,
        "arrow" => Format::Arrow,
        _ => {
            let known = "the format is not known: use json, csv or arrow";
            return reply::error(StatusCode::NOT_ACCEPTABLE, known);
        }
    };
    match sql.pool.run(&statement, format).await {
        Ok(answer) => {
            sql.note("answered");
            let media_type = format.media_type();
            let content = Content { media_type, etag: None, is_gzip: false, bytes: answer.body };
            let mut response = content.response();
            // JSON says so itself; the other formats cannot.
            if answer.truncated {
                response.headers_mut().insert(TRUNCATED, HeaderValue::from_static("true"));
            }
            response
        }
        Err(error) => {
            sql.note(error.outcome());
            reply::error(status_of(&error), &error.to_string())
        }
    }
}

fn status_of(error: &Error) -> StatusCode {
    match error {
        Error::Refused(_) | Error::Failed(_) | Error::Late(_) | Error::Died(_) => {
            StatusCode::BAD_REQUEST
        }
        Error::Busy | Error::Unpublished(_) => StatusCode::SERVICE_UNAVAILABLE,
        Error::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
