//! Up to which block balances may have changed unobserved, so that an older balance is out of date.
//!
//! For ether, any account may have taken part in a block whose transfers are not all known. For a
//! token, logs show every transfer, so a holder's balance is out of date only if the holder moved
//! the token later, which `address_flows` shows.

use crate::rows::coverage::Interval;
use crate::rows::{Lacks, address_flows, balances};
use crate::store::Range;
use alloy_primitives::Address;

/// The last such block of ether, and of tokens if their flows are not known either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unseen {
    pub ether: Option<u64>,
    pub tokens: Option<u64>,
}

impl Unseen {
    /// For blocks up to `last`, from coverage.
    pub(super) fn in_coverage(coverage: &[Interval], last: u64) -> Self {
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

    /// For blocks up to `last`, from the ranges' manifests.
    pub(super) fn in_ranges(ranges: &[Range], last: u64) -> Self {
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

    /// Whether a balance after a block is still valid after the last one.
    pub(super) fn holds(self, asset: Option<Address>, block_number: u64) -> bool {
        let unseen = if asset.is_some() { self.tokens } else { self.ether };
        unseen.is_none_or(|unseen| block_number >= unseen)
    }

    /// The same as SQL, for an asset and a block number.
    pub(super) fn sql(self, asset: &str, block_number: &str) -> String {
        let [ether, tokens] = [self.ether, self.tokens].map(|unseen| unseen.unwrap_or(0));
        format!("{block_number} >= CASE WHEN {asset} = 'ETH' THEN {ether} ELSE {tokens} END")
    }
}
