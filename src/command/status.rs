//! `spyhop status`

use super::print;
use crate::error::Failed;
use crate::store::{in_quarantine, is_locked, read_chain, read_readable_ranges, tail};
use crate::text::shown;
use crate::watch::{Heartbeat, SourceRate, contiguity};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `spyhop status`.
#[derive(Args, Debug)]
pub(super) struct Status {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command: exit code 1 if something is wrong.
pub(super) fn run(arguments: &Status) -> Result<()> {
    let root = &arguments.data;
    let chain = read_chain(root)?.with_context(|| {
        format!("no data in `{}` yet; `spyhop watch` creates it", root.display())
    })?;
    let (ranges, unreadable) = read_readable_ranges(root)?;
    let tail: Vec<_> = tail::paths(root)?.iter().filter_map(|path| tail::number_of(path)).collect();
    let heartbeat = Heartbeat::read(root);
    let running = is_locked(root) == Some(true);
    let unreadable = unreadable
        .first()
        .map(|range| format!("`{}` is damaged: {}", range.path.display(), range.reason));
    let unhealthy =
        heartbeat.as_ref().and_then(|heartbeat| heartbeat.unhealthy.clone()).or(unreadable);
    let lost_reorgs = in_quarantine(root)?.reorgs;
    let bytes: u64 = ranges.iter().map(|range| range.manifest.bytes()).sum();
    let mut text = String::new();
    if arguments.json {
        let status = json!({
            "chain_id": chain.identity.chain_id,
            "genesis_hash": chain.identity.genesis_hash,
            "running": running,
            "healthy": unhealthy.is_none(),
            "first_block": ranges.first().map(|range| range.first).or(tail.first().copied()),
            "sealed_ranges": ranges.len(),
            "sealed_bytes": bytes,
            "tail_blocks": tail.len(),
            "heartbeat": heartbeat,
            "damaged_reorgs": lost_reorgs,
        });
        text = serde_json::to_string_pretty(&status)? + "\n";
    } else {
        writeln!(text, "chain        {}", chain.identity.chain_id)?;
        writeln!(text, "writer       {}", if running { "running" } else { "not running" })?;
        if let (Some(first), Some(last)) = (ranges.first(), ranges.last()) {
            writeln!(
                text,
                "sealed       {} to {}, {} ranges, {} MB",
                first.first,
                last.last,
                ranges.len(),
                bytes / 1_000_000
            )?;
        }
        if let (Some(first), Some(last)) = (tail.first(), tail.last()) {
            writeln!(text, "tail         {first} to {last}")?;
        }
        if let Some(Heartbeat { state, head, lag_blocks, node_lag_s, .. }) = &heartbeat {
            writeln!(text, "state        {}", shown(state))?;
            let number = |number: &Option<u64>| {
                number.map_or("unknown".to_owned(), |number| number.to_string())
            };
            let age = node_lag_s
                .map(|age_s| format!(", {age_s} s old when last seen"))
                .unwrap_or_default();
            writeln!(text, "node's head  {}{age}", number(head))?;
            writeln!(text, "lag          {} blocks behind the node", number(lag_blocks))?;
        }
        let differences = heartbeat.as_ref().map_or(0, |heartbeat| heartbeat.sender_differences);
        if differences > 0 {
            writeln!(
                text,
                "senders      recovered by libsecp256k1 only: {differences} batches were wrong, \
                 see the log"
            )?;
        }
        for path in &lost_reorgs {
            writeln!(
                text,
                "lost         the record of a reorganisation, which was damaged: it is in {}",
                path.display()
            )?;
        }
        if let Some(building) = heartbeat.as_ref().and_then(|heartbeat| heartbeat.building.as_ref())
        {
            let done = building.done_permille as f64 / 10.0;
            let eta = building.eta_s.map_or("unknown".to_owned(), |eta| format!("{eta} s"));
            writeln!(
                text,
                "building     {done} % done, {} blocks left, ETA {eta}",
                building.blocks_left
            )?;
            for SourceRate { source, blocks, blocks_s, kb_s } in &building.sources {
                writeln!(
                    text,
                    "  {source:<10} {blocks} blocks, {blocks_s} blocks/s, {:.1} MB/s",
                    *kb_s as f64 / 1_000.0
                )?;
            }
        }
    }
    print(&text)?;
    match unhealthy {
        Some(reason) => {
            let hint = "the writer retries by itself; its log has the details";
            Err(Failed::new(format!("unhealthy: {reason}"), hint).into())
        }
        None => contiguity::check(root),
    }
}
