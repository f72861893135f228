//! The writer's state, as JSON: what `spyhop status` knows without opening a range.

use crate::clock::{now, utc};
use crate::panels::Newest;
use crate::publish::FileId;
use crate::store::{is_locked, read_chain};
use crate::watch::{Building, Heartbeat};
use serde_json::{Value, json};
use std::path::Path;

/// A writer beats every five seconds at least.
const BEAT_MAX_S: u64 = 120;

/// What the status says about the published file.
pub(super) fn published_json(file: FileId, newest: &Newest) -> Value {
    json!({
        "block": newest.number,
        "hash": newest.hash,
        "timestamp": newest.timestamp.map(utc),
        "id": file.to_string(),
    })
}

/// What is wrong with the writer, if anything.
pub(super) fn unhealthy(root: &Path) -> Option<String> {
    reason(Heartbeat::read(root).as_ref(), is_locked(root) == Some(true))
}

fn reason(heartbeat: Option<&Heartbeat>, is_alive: bool) -> Option<String> {
    let Some(heartbeat) = heartbeat else {
        return Some("no heartbeat of a writer yet: see its log".to_owned());
    };
    let age_s = heartbeat.age_s();
    if !is_alive {
        let age = age_s.map(|age_s| format!(", {age_s} s ago")).unwrap_or_default();
        return Some(format!(
            "the writer is not running; its last state{age}: {}",
            heartbeat.state
        ));
    }
    match age_s {
        Some(age_s) if age_s <= BEAT_MAX_S => heartbeat.unhealthy.clone(),
        Some(age_s) => Some(format!("no heartbeat of the writer for {age_s} s")),
        None => Some("the writer's last heartbeat is in the future".to_owned()),
    }
}

/// The whole status; `published` is what readers see, if anything is published yet.
pub(super) fn status_json(
    root: &Path,
    published: Option<&(FileId, Newest)>,
    takes_sql: bool,
) -> Value {
    let heartbeat = Heartbeat::read(root);
    let is_alive = is_locked(root) == Some(true);
    let unhealthy = reason(heartbeat.as_ref(), is_alive);
    let chain_id = read_chain(root).ok().flatten().map(|chain| chain.identity.chain_id);
    let published = published.map(|(file, newest)| {
        let mut published = published_json(*file, newest);
        published["age_s"] = json!(newest.timestamp.map(|made| now().saturating_sub(made)));
        published
    });
    let beat = heartbeat.as_ref();
    json!({
        "chain_id": chain_id,
        "state": beat.map(|beat| beat.state.as_str()),
        "healthy": unhealthy.is_none(),
        "unhealthy": unhealthy,
        "writer_alive": is_alive,
        "head": beat.and_then(head_json),
        "published": published,
        "lag_blocks": beat.and_then(|beat| beat.lag_blocks),
        "building": beat.and_then(|beat| beat.building.as_ref()).map(building_json),
        "paused": beat.and_then(|beat| beat.paused).map(|reason| reason.to_string()),
        "sql": takes_sql,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// The node's head when the writer last saw it.
fn head_json(beat: &Heartbeat) -> Option<Value> {
    let block = beat.head?;
    let made = beat.node_lag_s.map(|lag_s| beat.time.saturating_sub(lag_s));
    Some(json!({
        "block": block,
        "timestamp": made.map(utc),
        "lag_s": made.map(|made| now().saturating_sub(made)),
    }))
}

fn building_json(building: &Building) -> Value {
    json!({
        "blocks_per_s": building.sources.iter().map(|source| source.blocks_s).sum::<u64>(),
        "done_percent": building.done_permille as f64 / 10.0,
        "eta_s": building.eta_s,
        "left": building.blocks_left,
    })
}
