//! SQL of the clients' own: each statement goes to a process that can only read.

use super::App;
use super::reply::{self, Content};
use crate::query::{Error, Format, Pool, SQL_BYTES_MAX, Settings};
use anyhow::Result;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a statement may take to arrive.
const BODY_MAX: Duration = Duration::from_secs(10);

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
    body: Body,
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
    let statement = match statement(body).await {
        Ok(statement) => statement,
        Err((status, reason)) => return reply::error(status, &reason),
    };
    match sql.pool.run(&statement, format).await {
        Ok(answer) => {
            sql.note("answered");
            let mut content = Content::text(format.media_type(), answer.body);
            content.is_truncated = answer.truncated;
            content.response()
        }
        Err(error) => {
            sql.note(error.outcome());
            reply::error(status_of(&error), &error.to_string())
        }
    }
}

/// The statement in a body, which must come in time.
async fn statement(body: Body) -> Result<String, (StatusCode, String)> {
    let bytes = tokio::time::timeout(BODY_MAX, to_bytes(body, SQL_BYTES_MAX)).await;
    let Ok(bytes) = bytes else {
        let late = "the statement did not arrive in time: send it at once".to_owned();
        return Err((StatusCode::REQUEST_TIMEOUT, late));
    };
    let bytes = bytes.map_err(|_| {
        let long = format!("a statement has at most {SQL_BYTES_MAX} bytes");
        (StatusCode::PAYLOAD_TOO_LARGE, long)
    })?;
    String::from_utf8(bytes.into())
        .map_err(|_| (StatusCode::BAD_REQUEST, "the statement is not UTF-8".to_owned()))
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
