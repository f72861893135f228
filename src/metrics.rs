//! Prometheus metrics of a volume: from the writer's heartbeat, the manifests of the sealed ranges
//! and the published file. Nothing here asks the node.
//!
//! No label holds an address, a hash or a URL: how many series there are depends on spyhop's tables
//! and methods, not on the chain.

mod published;
mod series;

use crate::clock::now;
use crate::store::{file_system_bytes, is_locked, read_readable_ranges};
use crate::watch::{Heartbeat, PauseReason, SourceRate};
use anyhow::Result;
use prometheus_client::encoding::prometheus_text;
use published::Published;
use series::Series;
use std::collections::BTreeMap;
use std::path::Path;

/// The `Content-Type` of [`text`].
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The metrics of the volume at `root` in Prometheus's text format 0.0.4, and those of a server:
/// how many queries ended in which way.
///
/// # Errors
/// If the volume cannot be read. What a volume lacks, because nothing is published yet or no writer
/// ever ran, is left out.
pub(crate) fn text(root: &Path, queries: &[(&str, u64)]) -> Result<String> {
    let mut series = Series::new();
    series.gauge_of("build_info", "spyhop's version", [("version", env!("CARGO_PKG_VERSION"))], 1);
    let (free, size) = file_system_bytes(root)?;
    series.gauge("volume_free_bytes", "Bytes free on the volume's file system", free);
    series.gauge("volume_size_bytes", "Bytes of the volume's file system", size);
    let running = is_locked(root) == Some(true);
    series.gauge("writer_running", "1 if a writer has the volume open", running.into());
    let heartbeat = Heartbeat::read(root);
    if let Some(heartbeat) = &heartbeat {
        of_writer(&mut series, heartbeat);
    }
    let published = Published::read(root)?;
    let mut rows = of_ranges(&mut series, root, published.as_ref())?;
    if let Some(published) = published {
        published.add_to(&mut series, &mut rows);
    }
    for (table, count) in &rows {
        series.gauge_of("rows", "Rows published, by table", [("table", table)], *count);
    }
    for (outcome, count) in queries {
        let what = "Queries of the server since its start";
        series.counter("queries", what, [("outcome", outcome)], *count);
    }
    series.text()
}

/// What the writer says of itself and of the node.
fn of_writer(series: &mut Series, heartbeat: &Heartbeat) {
    let time = "When the writer last said what it does, in seconds since 1970";
    series.gauge("heartbeat_timestamp_seconds", time, heartbeat.time);
    let healthy = heartbeat.unhealthy.is_none();
    series.gauge("writer_healthy", "0 if the writer says that something is wrong", healthy.into());
    let stages = [
        ("head", heartbeat.head),
        ("finalized", heartbeat.finalized),
        ("stored", heartbeat.tip),
        ("sealed", heartbeat.sealed),
    ];
    for (stage, number) in stages {
        block(series, stage, number);
    }
    let head_timestamp = heartbeat.node_lag_s.map(|age_s| heartbeat.time.saturating_sub(age_s));
    block_timestamp(series, "head", head_timestamp);
    let what = "Blocks that failed their check since the writer's start";
    series.counter("proof_failures", what, [], heartbeat.proof_failures);
    let what = "Batches of senders that differed from libsecp256k1 since the writer's start";
    series.counter("sender_differences", what, [], heartbeat.sender_differences);
    let what = "Calls of the node since the writer's start";
    for calls in &heartbeat.calls {
        for (outcome, count) in [("answered", calls.answered), ("failed", calls.failed)] {
            let labels = [("method", &calls.method[..]), ("outcome", outcome)];
            series.counter("rpc_requests", what, labels, count);
        }
    }
    for (reason, label) in PauseReason::ALL {
        let paused = heartbeat.paused == Some(reason);
        let what = "1 while building history pauses for this reason";
        series.gauge_of("build_paused", what, [("reason", label)], paused.into());
    }
    let building = heartbeat.building.as_ref();
    let left = building.map_or(0, |building| building.blocks_left);
    series.gauge("build_blocks_left", "Blocks of history still to be read", left);
    let rates = building.map_or(&[][..], |building| &building.sources);
    for SourceRate { source, blocks_s, .. } in rates {
        let what = "Blocks of history read a second, lately";
        series.gauge_of("build_blocks_per_second", what, [("source", source)], *blocks_s);
    }
}

/// What is sealed; returns its published rows, by table.
fn of_ranges(
    series: &mut Series,
    root: &Path,
    published: Option<&Published>,
) -> Result<BTreeMap<String, u64>> {
    let (ranges, unreadable) = read_readable_ranges(root)?;
    let mut rows = BTreeMap::new();
    // One that was sealed after the file was published is still in the published tail.
    let tail_first = published.and_then(|published| published.tail_first).unwrap_or(u64::MAX);
    let shown = ranges.iter().filter(|range| range.last < tail_first);
    for (name, table) in shown.flat_map(|range| &range.manifest.tables) {
        *rows.entry(name.clone()).or_default() += table.rows;
    }
    let bytes = ranges.iter().map(|range| range.manifest.bytes()).sum();
    series.gauge("sealed_ranges", "Sealed ranges", ranges.len() as u64);
    series.gauge("sealed_bytes", "Bytes of the sealed ranges' tables", bytes);
    series.gauge("unreadable_ranges", "Sealed ranges that are damaged", unreadable.len() as u64);
    Ok(rows)
}

fn block(series: &mut Series, stage: &str, number: Option<u64>) {
    if let Some(number) = number {
        series.gauge_of("block", "The last block at each stage", [("stage", stage)], number);
    }
}

fn block_timestamp(series: &mut Series, stage: &str, timestamp: Option<u64>) {
    if let Some(timestamp) = timestamp {
        let what = "Time of the last block at a stage, in seconds since 1970";
        series.gauge_of("block_timestamp_seconds", what, [("stage", stage)], timestamp);
    }
}

/// Age of a time in seconds.
fn age_s(timestamp: u64) -> u64 {
    now().saturating_sub(timestamp)
}
