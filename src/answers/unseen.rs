//! Up to which block balances may have changed without anybody seeing it. What was had before that
//! is no longer what is had.
//!
//! Of ether nothing is sure after a block of which some movements are not known: any account may
//! have taken part. Of a token the logs tell everything, so a holder's balance is out of date only
//! where the holder moved the token later, which `address_flows` tells.

use crate::rows::coverage::Interval;
use crate::rows::{Lacks, address_flows, balances};
use crate::store::Range;
use alloy_primitives::Address;

/// The last such block of ether, and of tokens where their flows do not tell either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Of ether.
    pub ether: Option<u64>,
    /// Of tokens.
    pub tokens: Option<u64>,
}

impl Unseen {
    /// Of blocks up to `last`, as coverage has them.
    pub fn in_coverage(coverage: &[Interval], last: u64) -> Self {
        let of =
            |name: &'static str| coverage.iter().filter(move |interval| interval.table == name);
        let mut unseen = Self::default();
        for interval in of(balances::TABLE.name) {
            let Some(lacks) = interval.lacks else { continue };
            let without_flows = of(address_flows::TABLE.name)
                .filter(|flows| flows.lacks == Some(Lacks::Rows))
                .filter_map(|flows| {
                    Some(flows.last.min(interval.last))
                        .filter(|end| *end >= flows.first.max(interval.first))
                });
            let without_flows: Vec<_> = without_flows.collect();
            unseen.note(lacks, (interval.first, interval.last), last);
            without_flows
                .into_iter()
                .for_each(|end| unseen.note(Lacks::Rows, (interval.first, end), last));
        }
        unseen
    }

    /// Of blocks up to `last`, as ranges have them.
    pub fn in_ranges(ranges: &[Range], last: u64) -> Self {
        let mut unseen = Self::default();
        let mut next = ranges.first().map_or(0, |range| range.first);
        for range in ranges {
            if next < range.first {
                unseen.note(Lacks::Rows, (next, range.first - 1), last);
            }
            next = range.last + 1;
            if !range.tables().has(&balances::TABLE) {
                unseen.note(Lacks::Rows, (range.first, range.last), last);
            }
            for gap in range.manifest.gaps_of(&balances::TABLE) {
                let lacks = if range.tables().has(&address_flows::TABLE) {
                    gap.lacks()
                } else {
                    Lacks::Rows
                };
                unseen.note(lacks, (gap.first, gap.last), last);
            }
        }
        unseen
    }

    fn note(&mut self, lacks: Lacks, (first, end): (u64, u64), last: u64) {
        if first > last {
            return;
        }
        let end = Some(end.min(last));
        if lacks != Lacks::TokenBalances {
            self.ether = self.ether.max(end);
        }
        if lacks == Lacks::Rows {
            self.tokens = self.tokens.max(end);
        }
    }

    /// Whether what somebody had after a block is what was had after the last one too.
    pub fn holds(self, asset: Option<Address>, block_number: u64) -> bool {
        let unseen = if asset.is_some() { self.tokens } else { self.ether };
        unseen.is_none_or(|unseen| block_number >= unseen)
    }

    /// The same as SQL, of an asset and a block's number.
    pub(super) fn sql(self, asset: &str, block_number: &str) -> String {
        let [ether, tokens] = [self.ether, self.tokens].map(|unseen| unseen.unwrap_or(0));
        format!("{block_number} >= CASE WHEN {asset} = 'ETH' THEN {ether} ELSE {tokens} END")
    }
}
