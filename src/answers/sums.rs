//! The sums from which supplies are computed, of the ranges of a ranking.
//!
//! Ranges are summed in groups. The sums of a group hold if no range up to its end has been added
//! or changed since, which the ranges' fingerprints show: a merge within these blocks preserves
//! their sum, and everything else changes it. What is above the last such group is summed by each
//! query. As ranges of equal size make a group, a merge crosses the end of one only if the group
//! is of the sizes that are merged next, and small.

use super::amounts::FITS_NOT;
use super::windows::BlockRun;
use crate::rows::Kind::{Integer, Key, Text, Wide};
use crate::rows::address_flows::Seen;
use crate::rows::{Rows, Table, column, gas_blocks};
use crate::stop::Stop;
use crate::store::{
    GroupLimit, Range, Store, TableManifest, TableWriter, for_each_batch, table_path,
};
use alloy_primitives::{Address, U256, U512};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Rows written at a time.
const BATCH_ROWS: usize = 8_192;

/// The sums.
pub(crate) const SUMS: Table = Table {
    name: "sums",
    comment: "One row per group of ranges and asset: amounts in and out, for ether of all \
              addresses, for tokens of the zero address.",
    columns: &[
        column("asset", Key, "ETH, or the token's contract."),
        column("last_block", Integer, "The last block of the group."),
        column("amount_in", Wide, "Amount received."),
        column("amount_in_text", Text, FITS_NOT),
        column("amount_out", Wide, "Amount sent."),
        column("amount_out_text", Text, FITS_NOT),
        column("burnt", Wide, "Ether: fees burnt, including those for blobs. Token: 0."),
        column("burnt_text", Text, FITS_NOT),
    ],
};

/// The end of a group of ranges.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct GroupEnd {
    /// Its last block.
    last: u64,
    /// The sum of the fingerprints of all ranges up to it.
    fingerprint: U256,
}

/// The last block up to which these groups are as the ranges are now; `None` if none is.
pub(super) fn last_unchanged(ends: &[GroupEnd], ranges: &[BlockRun]) -> Option<u64> {
    let is_unchanged = |end: &&GroupEnd| {
        let mut below = ranges.iter().take_while(|range| range.first <= end.last);
        let sum = below.try_fold(U256::ZERO, |sum, range| {
            let fingerprint = range.fingerprint.filter(|_| range.last <= end.last)?;
            Some(sum.wrapping_add(fingerprint))
        });
        sum == Some(end.fingerprint)
    };
    ends.iter().rev().find(is_unchanged).map(|end| end.last)
}

/// The sums of one asset.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    amount_in: U512,
    amount_out: U512,
    burnt: U512,
}

impl Sum {
    fn add(&mut self, flow: &Seen) {
        self.amount_in += flow.amount_in;
        self.amount_out += flow.amount_out;
    }
}

/// Sums ranges, ascending, and writes the sums of each group.
pub(super) struct Summing {
    writer: TableWriter,
    /// The current group's.
    ether: Sum,
    tokens: BTreeMap<Address, Sum>,
    /// Of all ranges so far.
    fingerprint: U256,
    ends: Vec<GroupEnd>,
    /// A group ends when it has this many tokens, which limits memory.
    tokens_max: usize,
}

impl Summing {
    /// Writes to a file of this directory.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(super) fn create(directory: &Path, tokens_max: usize) -> Result<Self> {
        let path = table_path(directory, SUMS.name);
        Ok(Self {
            writer: TableWriter::create(&path, &SUMS, GroupLimit::USUAL)?,
            ether: Sum::default(),
            tokens: BTreeMap::new(),
            fingerprint: U256::ZERO,
            ends: Vec::new(),
            tokens_max,
        })
    }

    /// Adds the flow of an address.
    pub(super) fn add(&mut self, flow: &Seen) {
        match flow.asset {
            None => self.ether.add(flow),
            // Those that are only counted have no amounts.
            Some(_) if flow.amount_in.is_zero() && flow.amount_out.is_zero() => {}
            Some(token) if flow.address.is_zero() => {
                self.tokens.entry(token).or_default().add(flow)
            }
            Some(_) => {}
        }
    }

    /// Ends a range, after its flows: adds the fees burnt in it, and writes its group if it is the
    /// last one of that.
    ///
    /// # Errors
    /// If it cannot be read or the sums cannot be written; and
    /// [`Stopped`](crate::stop::Stopped).
    pub(super) fn end_range(
        &mut self,
        store: &Store,
        range: &Range,
        next: Option<&Range>,
        stop: &Stop,
    ) -> Result<()> {
        if range.rows(&gas_blocks::TABLE) > 0 {
            let path = range.file(store.root(), &gas_blocks::TABLE);
            for_each_batch(&path, &gas_blocks::BURNT, |batch| {
                self.ether.burnt += gas_blocks::burnt(batch)?;
                stop.check()?;
                Ok(true)
            })?;
        }
        self.fingerprint = self.fingerprint.wrapping_add(range.manifest.fingerprint());
        let goes_on = next.is_some_and(|next| next.blocks() == range.blocks());
        if goes_on && self.tokens.len() < self.tokens_max {
            Ok(())
        } else {
            self.end_group(range.last)
        }
    }

    fn end_group(&mut self, last: u64) -> Result<()> {
        self.ends.push(GroupEnd { last, fingerprint: self.fingerprint });
        let tokens = std::mem::take(&mut self.tokens);
        let ether = std::mem::take(&mut self.ether);
        let tokens = tokens.into_iter().map(|(token, sum)| (Some(token), sum));
        let sums: Vec<_> = tokens.chain([(None, ether)]).collect();
        for some in sums.chunks(BATCH_ROWS) {
            let mut rows = Rows::new(&SUMS);
            for (asset, sum) in some {
                rows.asset(*asset);
                rows.integer(last)?;
                for amount in [sum.amount_in, sum.amount_out, sum.burnt] {
                    rows.sum(amount);
                }
            }
            self.writer.write(&rows.finish())?;
        }
        Ok(())
    }

    /// The ends of the groups, and the name and the manifest of the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn finish(self) -> Result<(Vec<GroupEnd>, (String, TableManifest))> {
        let (name, file) = self.writer.finish(|_| Vec::new())?;
        Ok((self.ends, (name.to_owned(), file)))
    }
}
