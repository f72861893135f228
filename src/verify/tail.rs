//! The blocks that are not yet sealed, one file each.

use super::block::{Rules, StoredBlock};
use super::fault::Fault;
use super::range::lacking;
use super::rebuild;
use crate::rows::{Selection, balances, blocks, combine};
use crate::store::{BlockLink, Damaged, tail};
use alloy_primitives::B256;
use std::path::Path;

/// A tail file that was checked.
#[derive(Debug)]
pub(super) struct CheckedFile {
    /// The link of its block; `None` if it could not be read.
    pub link: Option<BlockLink>,
    /// The tables that it lacks to rebuild its block.
    pub lacking: Selection,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
}

/// Checks the file of one block; with rules, its rows too. `None` if the file no longer exists.
pub(super) fn check(
    root: &Path,
    number: u64,
    hash: B256,
    rules: Option<&Rules>,
) -> Option<CheckedFile> {
    let place = tail::path(number, hash);
    let block = match tail::read(root, number, hash) {
        Ok(block) => block,
        Err(_) if !root.join(&place).exists() => return None,
        Err(error) => {
            let cause = error
                .downcast::<Damaged>()
                .map_or_else(|error| format!("{error:#}"), |damaged| damaged.reason);
            let fault = Fault::new(place.display().to_string(), "file", "an intact file", cause)
                .of_block(number);
            return Some(CheckedFile {
                link: None,
                lacking: Selection::of_known([]),
                faults: vec![fault],
            });
        }
    };
    let link = block.link;
    let mut faults = Vec::new();
    let mut same = |check, expected: String, found: String| {
        if expected != found {
            faults.push(
                Fault::new(place.display().to_string(), check, expected, found).of_block(number),
            );
        }
    };
    same("number", number.to_string(), link.number.to_string());
    same("hash", hash.to_string(), link.hash.to_string());
    if let Some(rows) = block.batch(&blocks::TABLE) {
        same("rows of `blocks`", "1".to_owned(), rows.num_rows().to_string());
    }
    let lacking = lacking(block.tables);
    if faults.is_empty()
        && let Some(rules) = rules
    {
        faults = if lacking.is_empty() {
            // In the tail, combined tables are stored by block like the others.
            let selection = rebuild::recomputed(block.tables).with(rebuild::combined(block.tables));
            let tables =
                selection.tables().filter_map(|table| block.batch(table).cloned()).collect();
            let partial = rebuild::partial(&block.gaps);
            let combined = Selection::of_known([]);
            let named = Some(hash);
            let balances = block.batch(&balances::TABLE).map(combine::read).transpose();
            match balances.map(Option::unwrap_or_default) {
                Ok(balances) => {
                    let block = StoredBlock {
                        number,
                        named,
                        selection,
                        tables,
                        partial,
                        combined,
                        balances,
                    };
                    block.check(rules, Some(&link)).faults
                }
                Err(error) => {
                    let fault =
                        Fault::new("balances", "rows", "a readable file", format!("{error:#}"));
                    vec![fault.of_block(number)]
                }
            }
        } else {
            block
                .batch(&blocks::TABLE)
                .and_then(|rows| rebuild::header_fault(number, rows))
                .into_iter()
                .collect()
        };
    }
    Some(CheckedFile { link: Some(link), lacking, faults })
}
