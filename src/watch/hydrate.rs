//! Balances of accounts known from history only.
//!
//! The node serves state for new blocks only, so an account that moved large amounts before has no
//! balance until it moves again. Such balances are requested with new blocks, a few with each, and
//! their rows are stored with that block. The accounts are read from the ranges, one range after
//! the other at idle priority: the parties of large transfers in blocks whose balances are missing.
//! Ranges without such blocks are not read. All of this is bounded and in memory only; another
//! process may request them again.

use super::abort::AbortOnDrop;
use super::builder::Builder;
use super::error::FetchError;
use super::tokens::Account;
use crate::rows::combine::Entry;
use crate::rows::large_transfers::{self, Large};
use crate::rows::{Gap, Lacks, balances};
use crate::store::{Damaged, Hash, Range, TailBlock, for_each_entry};
use alloy_primitives::B256;
use anyhow::Result;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

/// Accounts requested with one block.
const ACCOUNTS_OF_BLOCK: usize = 64;

/// Accounts taken from one range, in order of rank; also the most that can be waiting.
const WAITING_MAX: usize = 10_000;

/// Accounts remembered to have a balance.
const SEEN_MAX: usize = 100_000;

/// Blocks for which the requested accounts are remembered; a deeper reorganisation loses those
/// balances.
const ASKED_MAX: usize = 256;

/// The accounts to request, and those that need not be.
#[derive(Debug, Default)]
pub(super) struct Hydration {
    /// Accounts to request, in order of rank.
    waiting: VecDeque<Account>,
    /// Accounts whose balance was stored lately.
    seen: HashSet<Account>,
    /// The accounts requested with each block.
    asked: VecDeque<(B256, Arc<[Account]>)>,
    /// Ranges already read, as runs of blocks, ascending and never adjacent.
    read: Vec<(u64, u64)>,
    reading: Option<RangeRead>,
}

/// A range that is being read.
#[derive(Debug)]
struct RangeRead {
    blocks: (u64, u64),
    task: AbortOnDrop<Result<Vec<Account>, FetchError>>,
}

impl Hydration {
    /// Handles a range that was read, and starts the next one if no accounts are waiting. Returns
    /// damage if it found any.
    pub(super) async fn advance(
        &mut self,
        ranges: &[Range],
        builder: &Builder,
    ) -> Option<anyhow::Error> {
        if let Some(RangeRead { blocks, task }) =
            self.reading.take_if(|reading| reading.task.is_finished())
        {
            self.note_read(blocks);
            match task.await {
                Ok(Ok(accounts)) => self
                    .waiting
                    .extend(accounts.into_iter().filter(|account| !self.seen.contains(account))),
                Ok(Err(FetchError::Other(error))) if error.is::<Damaged>() => return Some(error),
                failed => {
                    tracing::debug!(first = blocks.0, ?failed, "range was not read for hydration")
                }
            }
        }
        let wanted = builder.tables().has(&balances::TABLE);
        if !wanted || self.reading.is_some() || self.waiting.len() >= ACCOUNTS_OF_BLOCK {
            return None;
        }
        while let Some(range) =
            ranges.iter().rev().find(|range| !self.is_read((range.first, range.last)))
        {
            let blocks = (range.first, range.last);
            let lacking = lacking(range);
            if lacking.is_empty() {
                self.note_read(blocks);
                continue;
            }
            let range = range.clone();
            let task = builder.on_thread(move |builder| {
                let (store, name) = (&builder.fetcher.store, large_transfers::TABLE.name);
                store.check_all(
                    std::slice::from_ref(&range),
                    |table| table == name,
                    Hash::New,
                    &builder.stop,
                )?;
                accounts(&range.file(store.root(), &large_transfers::TABLE), &lacking)
            });
            let task = AbortOnDrop::spawn(async move { Ok(task.await??) });
            self.reading = Some(RangeRead { blocks, task });
            return None;
        }
        None
    }

    /// The accounts to request with the next block, after the first `skipped`.
    pub(super) fn of_block(&self, skipped: usize) -> Arc<[Account]> {
        self.waiting
            .iter()
            .skip(skipped * ACCOUNTS_OF_BLOCK)
            .take(ACCOUNTS_OF_BLOCK)
            .copied()
            .collect()
    }

    /// Records a block that was written, and the accounts requested with it. An account without a
    /// balance after that has none to report.
    pub(super) fn take_in(&mut self, block: &TailBlock, asked: Arc<[Account]>) -> Result<()> {
        let Some(batch) = block.batch(&balances::TABLE) else { return Ok(()) };
        if Gap::of(&block.gaps, &balances::TABLE).iter().any(|gap| gap.lacks() == Lacks::Rows) {
            return Ok(());
        }
        if self.seen.len() >= SEEN_MAX {
            self.seen.clear();
        }
        self.seen.extend(balances::accounts(batch)?);
        self.seen.extend(asked.iter());
        if !self.waiting.is_empty() {
            self.waiting.retain(|account| !self.seen.contains(account));
        }
        if !asked.is_empty() {
            self.asked.push_back((block.link.hash, asked));
            let forgotten = self.asked.len().saturating_sub(ASKED_MAX);
            self.asked.drain(..forgotten);
        }
        Ok(())
    }

    /// Undoes what blocks added that a reorganisation dropped.
    pub(super) fn forget_blocks(&mut self, hashes: &[B256]) {
        let Self { asked, seen, waiting, .. } = self;
        asked.retain(|(hash, accounts)| {
            let stays = !hashes.contains(hash);
            if !stays {
                seen.retain(|account| !accounts.contains(account));
                waiting.extend(accounts.iter());
            }
            stays
        });
    }

    fn is_read(&self, (first, last): (u64, u64)) -> bool {
        self.read.iter().any(|run| run.0 <= first && last <= run.1)
    }

    fn note_read(&mut self, blocks: (u64, u64)) {
        let (mut first, mut last) = blocks;
        self.read.retain(|run| {
            let apart = run.1 + 1 < first || last + 1 < run.0;
            if !apart {
                (first, last) = (first.min(run.0), last.max(run.1));
            }
            apart
        });
        self.read.push((first, last));
        self.read.sort_unstable();
    }
}

/// The blocks of a range whose balances are missing although their large transfers are known.
fn lacking(range: &Range) -> Vec<(u64, u64)> {
    let tables = range.tables();
    if !tables.has(&large_transfers::TABLE) {
        return Vec::new();
    }
    if !tables.has(&balances::TABLE) {
        return vec![(range.first, range.last)];
    }
    let gaps = range.manifest.gaps_of(&balances::TABLE);
    gaps.iter().filter(|gap| gap.lacks() == Lacks::Rows).map(|gap| (gap.first, gap.last)).collect()
}

/// Rank of an account: parties of ether first, then of the tokens that move most, each by the rank
/// of its movement on its day.
type Place = (bool, Reverse<usize>, usize);

/// The parties of large transfers in these blocks, at most [`WAITING_MAX`], by rank.
fn accounts(path: &Path, lacking: &[(u64, u64)]) -> Result<Vec<Account>> {
    let mut places = HashMap::new();
    let mut group: Vec<Large> = Vec::new();
    for_each_entry(path, |entry: Large| {
        if group.first().is_some_and(|first| !first.is_of_group(&entry)) {
            place(&mut places, &mut group);
        }
        if lacking.iter().any(|(first, last)| (*first..=*last).contains(&entry.block_number)) {
            group.push(entry);
        }
    })?;
    place(&mut places, &mut group);
    Ok(first_of(&places))
}

/// Ranks the parties of one asset's movements on one day.
fn place(places: &mut HashMap<Account, Place>, group: &mut Vec<Large>) {
    let count = group.len();
    for (rank, Large { asset, from, to, kind, .. }) in group.drain(..).enumerate() {
        // Other assets have no balance that is an amount.
        if asset.is_some() && !["erc20", "weth"].contains(&kind) {
            continue;
        }
        let place = (asset.is_some(), Reverse(if asset.is_some() { count } else { 0 }), rank);
        for party in from.into_iter().chain(to).filter(|party| asset.is_none() || !party.is_zero())
        {
            let held = places.entry((asset, party)).or_insert(place);
            *held = place.min(*held);
        }
    }
    if places.len() > 4 * WAITING_MAX {
        let first: HashSet<_> = first_of(places).into_iter().collect();
        places.retain(|account, _| first.contains(account));
    }
}

fn first_of(places: &HashMap<Account, Place>) -> Vec<Account> {
    let mut accounts: Vec<_> = places.iter().map(|(account, place)| (*place, *account)).collect();
    accounts.sort_unstable();
    accounts.into_iter().take(WAITING_MAX).map(|(_, account)| account).collect()
}
