//! Links of blocks and ranges: hashes inside a range, between neighbours, in the tail; and the
//! counts of a block's rows.

use super::fault::Fault;
use crate::rows::{blocks, timestamp};
use crate::store::{BlockLink, Range, unlinked};
use alloy_primitives::B256;
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// The columns of `blocks` that are read.
const COLUMNS: [&str; 8] = [
    "number",
    "hash",
    "timestamp",
    "parent_hash",
    "transaction_count",
    "log_count",
    "withdrawal_count",
    "uncle_count",
];

/// The tables whose rows `blocks` counts.
const COUNTED: [(&str, &str); 4] = [
    ("transactions", "transaction_count"),
    ("logs", "log_count"),
    ("withdrawals", "withdrawal_count"),
    ("uncles", "uncle_count"),
];

/// Checks that the blocks of a range are consecutive, match its manifest, and have as many rows in
/// all tables as they say.
pub(super) fn inside(root: &Path, range: &Range) -> Result<Vec<Fault>> {
    let path = range.file(root, &blocks::TABLE);
    let file =
        File::open(&path).with_context(|| format!("failed to open: `{}`", path.display()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .with_context(|| format!("failed to read: `{}`", path.display()))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
    let mut walk = Walk { number: range.first, ..Walk::default() };
    for batch in builder.with_projection(mask).build()? {
        walk.batch(&batch.with_context(|| format!("failed to read: `{}`", path.display()))?);
    }
    let manifest = &range.manifest;
    let place = range.path.join("manifest.json").display().to_string();
    let mut same = |check, expected: String, found: String| {
        if expected != found {
            walk.faults.push(Fault::new(&place, check, expected, found));
        }
    };
    same(
        "first parent hash",
        walk.first_parent_hash.unwrap_or_default(),
        manifest.first_parent_hash.to_string(),
    );
    same("last hash", walk.hash.unwrap_or_default(), manifest.last_hash.to_string());
    let text = |time: Option<i64>| time.map_or("null".to_owned(), |time| time.to_string());
    let expected = timestamp(manifest.last_timestamp).map(u64::cast_signed);
    same("last timestamp", text(walk.timestamp), text(expected));
    for (table, column) in COUNTED {
        let counted = walk.counts.get(column).copied().unwrap_or_default();
        if let Some(held) = manifest.tables.get(table).filter(|held| held.rows != counted) {
            walk.faults.push(Fault::new(
                table,
                &format!("rows, the sum of blocks.{column}"),
                counted,
                held.rows,
            ));
        }
    }
    Ok(walk.faults)
}

/// Walks the blocks of a range from the first to the last.
#[derive(Default)]
struct Walk {
    /// The number that the next block must have.
    number: u64,
    first_parent_hash: Option<String>,
    hash: Option<String>,
    /// Of the previous block, in seconds; `None` if it does not fit a `TIMESTAMP`.
    timestamp: Option<i64>,
    counts: BTreeMap<&'static str, u64>,
    faults: Vec<Fault>,
}

impl Walk {
    fn batch(&mut self, batch: &RecordBatch) {
        let numbers = batch["number"].as_primitive::<Int64Type>();
        let timestamps = batch["timestamp"].as_primitive::<TimestampMicrosecondType>();
        let [hashes, parents] =
            ["hash", "parent_hash"].map(|column| batch[column].as_string::<i32>());
        for row in 0..batch.num_rows() {
            let number = self.number;
            let mut same = |check, expected: &str, found: &str| {
                if expected != found {
                    self.faults.push(Fault::new("blocks", check, expected, found).of_block(number));
                }
            };
            same("number", &number.to_string(), &numbers.value(row).to_string());
            let parent = parents.value(row);
            match &self.hash {
                Some(hash) => same("parent_hash", hash, parent),
                None => self.first_parent_hash = Some(parent.to_owned()),
            }
            self.hash = Some(hashes.value(row).to_owned());
            self.timestamp = timestamps.is_valid(row).then(|| timestamps.value(row) / 1_000_000);
            self.number += 1;
        }
        for (_, column) in COUNTED {
            let counts = batch[column].as_primitive::<Int64Type>();
            *self.counts.entry(column).or_default() += counts
                .iter()
                .flatten()
                .map(|count| u64::try_from(count).unwrap_or_default())
                .sum::<u64>();
        }
    }
}

/// The pairs of neighbours that do not link, among ranges that are ascending and do not overlap.
pub(super) fn between(ranges: &[Range]) -> Vec<(&Range, &Range, Fault)> {
    unlinked(ranges)
        .map(|(below, above)| {
            let check = "parent hash, the last hash of the range below";
            let place = above.path.display().to_string();
            let (expected, found) = (below.manifest.last_hash, above.manifest.first_parent_hash);
            (below, above, Fault::new(place, check, expected, found).of_block(above.first))
        })
        .collect()
}

/// The blocks of the tail whose parent is not stored, given the last sealed block. The tail may
/// have blocks of lost branches: each links to a block below.
pub(super) fn tail(links: &[BlockLink], sealed: Option<(u64, B256)>) -> Vec<Fault> {
    let mut held: BTreeMap<u64, Vec<B256>> = BTreeMap::new();
    let unsealed =
        links.iter().filter(|link| sealed.is_none_or(|(number, _)| link.number > number));
    for (number, hash) in unsealed.clone().map(|link| (link.number, link.hash)).chain(sealed) {
        held.entry(number).or_default().push(hash);
    }
    let bottom = unsealed.clone().map(|link| link.number).min();
    let unlinked = |link: &BlockLink| {
        let below = link.number.checked_sub(1).and_then(|number| held.get(&number));
        let expected = match below {
            None if Some(link.number) == bottom => return None,
            None => "a stored block".to_owned(),
            Some(hashes) if hashes.contains(&link.parent_hash) => return None,
            Some(hashes) => hashes.iter().map(B256::to_string).collect::<Vec<_>>().join(" or "),
        };
        Some(Fault::new("tail", "parent hash", expected, link.parent_hash).of_block(link.number))
    };
    unsealed.filter_map(unlinked).collect()
}
