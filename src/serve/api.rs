//! The routes of the API, each with what it answers.

use super::App;
use super::encode::{arrow, columns_json, csv, rows_json};
use super::events;
use super::readers::Published;
use super::reply::{self, Content, JSON, takes_gzip};
use super::sql;
use super::status::{published_json, status_json, unhealthy};
use crate::panels::{Answer, EventId, Kind, PANELS, Panel, Parameter, Values, panel};
use crate::publish::{FileId, published};
use anyhow::Result;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::sync::Arc;

/// The parameters of a request, in its order.
type Given = Query<Vec<(String, String)>>;

/// The routes.
pub(super) fn routes(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/api/v1/panels", get(panels))
        .route("/api/v1/panels/{name}", get(answer))
        .route("/api/v1/status", get(status))
        .route("/api/v1/events", get(stream))
        .route("/api/v1/sql", post(sql::run))
        .route("/health", get(health))
        .route("/metrics", get(metrics));
    for asset in &app.assets {
        router = router.route(asset.path, get(page));
    }
    router
        .fallback(|| async {
            reply::error(
                StatusCode::NOT_FOUND,
                "there is nothing here: the API begins at /api/v1/panels",
            )
        })
        .method_not_allowed_fallback(|| async {
            reply::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "this address takes GET only, and /api/v1/sql POST only",
            )
        })
        .with_state(app)
}

/// `GET /api/v1/panels`: what can be asked.
async fn panels(headers: HeaderMap) -> Response {
    let all: Vec<_> = PANELS.into_iter().map(panel_json).collect();
    let body = json!({ "panels": all }).to_string();
    let etag = format!("W/\"{}\"", &blake3::hash(body.as_bytes()).to_hex()[..16]);
    let not_modified = reply::not_modified(&headers, &etag);
    not_modified.unwrap_or_else(|| {
        match Content::new(JSON, Some(etag), body.into_bytes(), takes_gzip(&headers)) {
            Ok(content) => content.response(),
            Err(error) => reply::unanswered(&anyhow::Error::from(error).into()),
        }
    })
}

fn panel_json(panel: &Panel) -> Value {
    let parameter = |parameter: &Parameter| {
        let mut shown = json!({
            "name": parameter.name,
            "type": parameter.type_name(),
            "default": parameter.default,
            "required": parameter.default.is_none() && !parameter.is_optional,
        });
        match parameter.kind {
            Kind::Choice(words) => shown["values"] = json!(words),
            Kind::Integer(least, most) => shown["range"] = json!([least, most]),
            _ => {}
        }
        shown
    };
    let columns = panel.columns.iter().map(
        |column| json!({"name": column.name, "type": column.kind.sql(), "comment": column.comment}),
    );
    json!({
        "name": panel.name,
        "title": panel.title,
        "comment": panel.comment,
        "parameters": panel.parameters.iter().map(parameter).collect::<Vec<_>>(),
        "columns": columns.collect::<Vec<_>>(),
    })
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    Arrow,
}

impl Format {
    fn read(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "arrow" => Some(Self::Arrow),
            _ => None,
        }
    }
}

/// `GET /api/v1/panels/NAME`: a panel's rows.
async fn answer(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(given): Given,
    headers: HeaderMap,
) -> Response {
    let Some(panel) = panel(&name) else {
        return reply::error(
            StatusCode::NOT_FOUND,
            &format!("there is no panel `{name}`: /api/v1/panels lists them"),
        );
    };
    let (formats, given): (Vec<_>, Vec<_>) =
        given.into_iter().partition(|(name, _)| name == "format");
    let format = match formats.as_slice() {
        [] => Some(Format::Json),
        [(_, format)] => Format::read(format),
        _ => None,
    };
    let Some(format) = format else {
        let known = "the format is not known: use json, csv or arrow";
        return reply::error(StatusCode::NOT_ACCEPTABLE, known);
    };
    let values = match Values::read(panel.parameters, &given) {
        Ok(values) => values,
        Err(reason) => return reply::error(StatusCode::BAD_REQUEST, &reason),
    };
    let etag_of = {
        let asked = blake3::hash(format!("{name} {format:?} {values:?}").as_bytes()).to_hex();
        move |file: FileId| format!("W/\"{file}-{}\"", &asked[..16])
    };
    let takes_gzip = takes_gzip(&headers);
    if let Ok(Some(file)) = published(&app.root) {
        let etag = etag_of(file);
        if let Some(response) = reply::not_modified(&headers, &etag) {
            return response;
        }
        if let Some(content) = app.cache.get(&etag, takes_gzip) {
            return content.response();
        }
    }
    let shared = Arc::clone(&app);
    let content = app.readers.ask(move |published| {
        let etag = etag_of(published.file);
        // Somebody may have asked the same while this waited.
        if let Some(content) = shared.cache.get(&etag, takes_gzip) {
            return Ok(content);
        }
        let answer = panel.answer(&values, &published.snapshot)?;
        let (media_type, body) = written(panel, &answer, published, format)?;
        let mut content = Content::new(media_type, Some(etag), body, takes_gzip)?;
        content.is_truncated = answer.is_truncated;
        content.next = answer.next.map(|next| next.to_string().try_into()).transpose()?;
        shared.cache.put(takes_gzip, &content);
        Ok(content)
    });
    match content.await {
        Ok(content) => content.response(),
        Err(why) => reply::unanswered(&why),
    }
}

/// The media type and the body of an answer.
fn written(
    panel: &Panel,
    answer: &Answer,
    published: &Published<'_>,
    format: Format,
) -> Result<(&'static str, Vec<u8>)> {
    let Answer { sql, batches, is_truncated, next } = answer;
    Ok(match format {
        Format::Csv => ("text/csv; charset=utf-8; header=present", csv(batches)?),
        Format::Arrow => ("application/vnd.apache.arrow.stream", arrow(batches)?),
        Format::Json => {
            let columns = batches.first().map(|batch| columns_json(&batch.schema()));
            let body = format!(
                "{{\"panel\":{},\"published\":{},\"sql\":{},\"columns\":{},\
                 \"truncated\":{is_truncated},\"next\":{},\"rows\":{}}}\n",
                json!(panel.name),
                published_json(published.file, published.newest),
                json!(sql),
                columns.transpose()?.unwrap_or_default(),
                json!(next.map(|next| next.to_string())),
                rows_json(batches)?,
            );
            (JSON, body.into_bytes())
        }
    })
}

/// `GET /api/v1/status`.
async fn status(State(app): State<Arc<App>>) -> Response {
    let status = status_json(&app.root, app.feed.latest().as_ref(), app.sql.is_some());
    Content::text(JSON, status.to_string()).response()
}

/// `GET /api/v1/events`.
async fn stream(State(app): State<Arc<App>>, Query(given): Given, headers: HeaderMap) -> Response {
    let header = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let parameter = given.iter().find(|(name, _)| name == "last_event_id");
    let last = header.or(parameter.map(|(_, id)| id.as_str())).filter(|id| !id.is_empty());
    match last.map(str::parse::<EventId>).transpose() {
        Ok(last) => events::events(app, last).into_response(),
        Err(reason) => reply::error(StatusCode::BAD_REQUEST, &format!("Last-Event-ID: {reason}")),
    }
}

/// `GET /health`: whether there is something to read, and a writer that adds to it.
async fn health(State(app): State<Arc<App>>) -> Response {
    let reason = match published(&app.root) {
        Ok(Some(_)) => unhealthy(&app.root),
        Ok(None) => Some("nothing is published yet".to_owned()),
        Err(error) => Some(format!("{error:#}")),
    };
    let text = reason.clone().unwrap_or("ok".to_owned()) + "\n";
    let mut response = Content::text("text/plain; charset=utf-8", text).response();
    if reason.is_some() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// `GET /metrics`, for Prometheus.
async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut queries = app.readers.ended();
    for (outcome, count) in app.sql.iter().flat_map(|sql| sql.ended()) {
        *queries.entry(outcome).or_default() += count;
    }
    match app.metrics.text(&app.root, queries).await {
        Ok(text) => Content::text(crate::metrics::CONTENT_TYPE, text).response(),
        Err(error) => reply::unanswered(&error.into()),
    }
}

/// A file of the page.
async fn page(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(asset) = app.assets.iter().find(|asset| asset.path == uri.path()) else {
        return reply::error(StatusCode::NOT_FOUND, "there is no such file");
    };
    if let Some(response) = reply::not_modified(&headers, &asset.etag) {
        return response;
    }
    let is_gzip = takes_gzip(&headers);
    let bytes = if is_gzip { asset.gzip.clone().into() } else { asset.plain.into() };
    let etag = Some(asset.etag.clone());
    Content { media_type: asset.media_type, etag, is_gzip, is_truncated: false, next: None, bytes }
        .response()
}
