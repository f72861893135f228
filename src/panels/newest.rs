//! What a new published file adds to an older one: large transfers, and the reorganisations that
//! undid some.

use super::reach::{DAY_S, timestamp};
use super::transfers::large;
use super::{Newest, Snapshot};
use crate::sql::literal;
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use std::fmt;
use std::str::FromStr;

/// The newest block of a published file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventId {
    /// Its number.
    pub number: u64,
    /// Its hash; empty if blocks are not stored.
    pub hash: String,
}

impl EventId {
    /// The newest block as an id.
    pub(crate) fn of(newest: &Newest) -> Self {
        Self { number: newest.number, hash: newest.hash.clone().unwrap_or_default() }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.hash)
    }
}

impl FromStr for EventId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('-').and_then(|(number, hash)| {
            let is_hash = hash.is_empty() || super::parameters::is_hex(hash, 64);
            Some((number.parse().ok()?, hash.to_lowercase())).filter(|_| is_hash)
        });
        let (number, hash) = parts.ok_or("an event's id is the number and the hash of a block")?;
        Ok(Self { number, hash })
    }
}

/// What happened since an older published file.
#[derive(Debug)]
pub(crate) struct Since {
    /// Large transfers in blocks that are new, newest first: rows of the panel.
    pub transfers: Vec<RecordBatch>,
    /// The reorganisations that dropped its newest block, and later ones, oldest first: rows of
    /// `reorgs`.
    pub reorgs: Vec<RecordBatch>,
}

/// The most transfers and reorganisations that are told.
const TRANSFERS_MAX: u64 = 500;
const REORGS_MAX: u64 = 100;

/// What happened since the newest block was `last`.
pub(crate) fn since(last: &EventId, snapshot: &Snapshot<'_>) -> Result<Since> {
    let EventId { number, hash } = last;
    let held = snapshot.hash_of(*number)?;
    let (reorgs, fork) = if hash.is_empty() || held.as_deref() == Some(hash) {
        (Vec::new(), *number)
    } else {
        undone(*number, hash, snapshot)?
    };
    // Whole days, for a transfer is large among those of its day. Without the block's time the
    // search would have no end: then nothing is told.
    let day = snapshot
        .integer(&format!("SELECT epoch_us(timestamp) // 1000000 FROM block({fork})"))?
        .map(|seconds| format!(" AND day >= {}", timestamp(seconds / DAY_S * DAY_S)))
        .unwrap_or(" AND false".to_owned());
    let condition = format!("block_number > {fork}{day}");
    let transfers =
        snapshot.batches(&large(&condition, &format!("last > {fork}"), TRANSFERS_MAX))?;
    Ok(Since { transfers, reorgs })
}

/// The reorganisations that dropped a block, and the last block that was not dropped.
fn undone(number: u64, hash: &str, snapshot: &Snapshot<'_>) -> Result<(Vec<RecordBatch>, u64)> {
    let dropped = format!(
        "FROM reorgs WHERE detected_at >= (
            SELECT max(detected_at) FROM reorgs WHERE list_contains(old_hashes, {}))",
        literal(hash)
    );
    let fork = snapshot
        .integer(&format!("SELECT min(fork_block) {dropped}"))
        .context("the fork of a reorganisation")?;
    let reorgs = snapshot.batches(&format!(
        "SELECT detected_at, fork_block, fork_hash, depth, old_hashes, new_hashes {dropped}
        ORDER BY detected_at, fork_block DESC LIMIT {REORGS_MAX}"
    ))?;
    Ok((reorgs, fork.unwrap_or(number).min(number)))
}
