//! The manifest of a sealed range: written last, so that a directory with a manifest is complete.

use super::record;
use crate::geth::{ChainId, ChainOf};
use crate::rows::{Gap, LAYOUT, Selection, Table};
use alloy_primitives::{B256, U256};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Identity of a chain.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Its chain ID.
    pub chain_id: ChainId,
    /// Hash of block 0.
    pub genesis_hash: B256,
}

impl From<Identity> for ChainOf {
    fn from(Identity { chain_id, genesis_hash }: Identity) -> Self {
        Self { id: chain_id, genesis_hash }
    }
}

/// `manifest.json` of a sealed range.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Manifest {
    /// [`super::FORMAT`].
    pub format: u32,
    /// Identity of a chain.
    #[serde(flatten)]
    pub identity: Identity,
    /// The version that wrote it.
    pub spyhop_version: String,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// Parent hash of the first block.
    pub first_parent_hash: B256,
    /// Hash of the last block.
    pub last_hash: B256,
    /// Timestamp of the last block.
    pub last_timestamp: u64,
    /// The tables, by name.
    pub tables: BTreeMap<String, TableManifest>,
    /// Where a table lacks rows, ascending for each table: blocks that were not traced, or whose
    /// state was not served. A transaction's own transfer of ether is in `native_transfers` even
    /// so.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// If it was merged, the sum of its sources' fingerprints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<U256>,
}

/// One table's file in a sealed range.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct TableManifest {
    /// Rows.
    pub rows: u64,
    /// Length of the file.
    pub bytes: u64,
    /// First and last block of each interval with complete rows.
    pub covered: Vec<[u64; 2]>,
    /// BLAKE3 of the file.
    pub blake3: String,
    /// The version of the file's columns, if they changed within the format: a
    /// [`crate::rows::LAYOUT`].
    #[serde(default)]
    pub layout: u32,
}

impl Manifest {
    /// Reads the manifest in a range's directory.
    ///
    /// # Errors
    /// As [`record::read`].
    pub fn read(directory: &Path) -> Result<Self> {
        record::read(&directory.join("manifest.json"))
    }

    /// Its chain tables.
    pub fn selection(&self) -> Selection {
        Selection::of_known(self.tables.keys().map(String::as_str))
    }

    /// Its tables whose files have columns of an earlier layout.
    pub fn older(&self) -> Selection {
        let layout = |table: &Table| self.tables.get(table.name).map_or(LAYOUT, |held| held.layout);
        let older = self.selection().tables().filter(|table| !table.is_current(layout(table)));
        Selection::of_known(older.map(|table| table.name))
    }

    /// First and last block of each interval that is complete for a table.
    pub(crate) fn covered(&self, table: &str) -> Vec<[u64; 2]> {
        covered(self.first, self.last, table, &self.gaps)
    }

    /// Gaps of a table, ascending.
    pub(crate) fn gaps_of(&self, table: &Table) -> Vec<Gap> {
        Gap::of(&self.gaps, table)
    }

    /// Identifies the blocks and the content of every table. Fingerprints add up, modulo 2^256: a
    /// merged range has the sum of its sources', and any other change gives another sum.
    pub fn fingerprint(&self) -> U256 {
        self.merged.unwrap_or_else(|| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.first.to_le_bytes()).update(&self.last.to_le_bytes());
            for (name, table) in &self.tables {
                hasher.update(name.as_bytes()).update(table.blake3.as_bytes());
            }
            U256::from_le_bytes(*hasher.finalize().as_bytes())
        })
    }

    /// Length of all tables' files.
    pub fn bytes(&self) -> u64 {
        self.tables.values().map(|table| table.bytes).sum()
    }
}

/// The intervals between the gaps of a table in a range of blocks.
pub(super) fn covered(first: u64, last: u64, table: &str, gaps: &[Gap]) -> Vec<[u64; 2]> {
    let mut covered = Vec::new();
    let mut next = first;
    for gap in gaps.iter().filter(|gap| gap.table == table) {
        if next < gap.first {
            covered.push([next, gap.first - 1]);
        }
        next = gap.last + 1;
    }
    if next <= last {
        covered.push([next, last]);
    }
    covered
}
