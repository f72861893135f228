//! `reorgs`: one row per reorganisation seen.

use super::Kind::{Integer, Text, TextList, Time};
use super::{Rows, Table, column};
use alloy_primitives::B256;
use anyhow::Result;
use serde::{Deserialize, Serialize};

pub(crate) const TABLE: Table = Table {
    name: "reorgs",
    comment: "One row per reorganisation seen while following the chain.",
    columns: &[
        column("detected_at", Time, "When it was seen, UTC."),
        column("fork_block", Integer, "The last block that both chains share."),
        column("fork_hash", Text, "Its hash."),
        column("depth", Integer, "How many blocks were dropped."),
        column("old_hashes", TextList, "The blocks dropped, lowest first."),
        column(
            "new_hashes",
            TextList,
            "The blocks that replaced them, as far as known when it was seen, lowest first.",
        ),
    ],
};

/// A reorganisation.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Reorg {
    /// Seconds since 1970.
    pub detected_at: u64,
    /// The last block that both chains share.
    pub fork_block: u64,
    /// Its hash.
    pub fork_hash: B256,
    /// The blocks dropped, lowest first.
    pub old_hashes: Vec<B256>,
    /// The blocks that replace them, lowest first.
    pub new_hashes: Vec<B256>,
}

pub(crate) fn push(rows: &mut Rows, reorg: &Reorg) -> Result<()> {
    rows.time(reorg.detected_at);
    rows.integer(reorg.fork_block)?;
    rows.hex(reorg.fork_hash);
    rows.integer(reorg.old_hashes.len() as u64)?;
    rows.hex_list(Some(&reorg.old_hashes));
    rows.hex_list(Some(&reorg.new_hashes));
    Ok(())
}
