//! Balances of those whom only history knows.
//!
//! The node serves the state of new blocks only, so who moved much before them has no balance until
//! it moves again. These are asked for with the new blocks, a few with each, and their rows lie
//! among that block's. Who they are is read out of the ranges, one after the other and behind
//! everything else: the parties of large transfers in blocks whose balances are missing. A range
//! without such blocks is not read. All of it is in memory only, and bounded; another process may
//! ask again.

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

/// Accounts that are asked for with one block.
const ACCOUNTS_OF_BLOCK: usize = 64;

/// Accounts that are taken out of one range: those that come first. There are never more that wait.
const WAITING_MAX: usize = 10_000;

/// Accounts that are remembered to have a balance.
const SEEN_MAX: usize = 100_000;

/// Blocks of which it is remembered for whom they were asked: a deeper reorganisation loses what it
/// brought.
const ASKED_MAX: usize = 256;

/// What is to be asked for, and what need not be.
#[derive(Debug, Default)]
pub struct Hydration {
    /// Those to be asked for, the first ones first.
    waiting: VecDeque<Account>,
    /// Those who have a balance, of late.
    seen: HashSet<Account>,
    /// Who was asked for with which block.
    asked: VecDeque<(B256, Arc<[Account]>)>,
    /// The ranges that were read, as runs of blocks, ascending and never touching.
    read: Vec<(u64, u64)>,
    reading: Option<Reading>,
}

/// A range that is being read.
#[derive(Debug)]
struct Reading {
    blocks: (u64, u64),
    task: AbortOnDrop<Result<Vec<Account>, FetchError>>,
}

impl Hydration {
    /// Goes on: takes in a range that was read, and starts to read the next one where nobody is
    /// left to be asked for. Returns why one is damaged.
    pub async fn go_on(&mut self, ranges: &[Range], builder: &Builder) -> Option<anyhow::Error> {
        if let Some(Reading { blocks, task }) =
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
            self.reading = Some(Reading { blocks, task });
            return None;
        }
        None
    }

    /// Those who are to be asked for with the next block but `skipped`.
    pub fn of_block(&self, skipped: usize) -> Arc<[Account]> {
        self.waiting
            .iter()
            .skip(skipped * ACCOUNTS_OF_BLOCK)
            .take(ACCOUNTS_OF_BLOCK)
            .copied()
            .collect()
    }

    /// Takes in a block that was written, and who was asked for with it. Whoever has no balance
    /// after that has none to be told.
    pub fn take_in(&mut self, block: &TailBlock, asked: Arc<[Account]>) -> Result<()> {
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

    /// Takes back what blocks brought that are no longer of the chain.
    pub fn take_back(&mut self, hashes: &[B256]) {
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

/// The blocks of a range whose balances are missing, where it is known who moved much in them.
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

/// Who comes first: parties of ether, then of the tokens that move most, each by the rank of its
/// movement on its day.
type Place = (bool, Reverse<usize>, usize);

/// The parties of large transfers in these blocks, at most [`WAITING_MAX`], the first ones first.
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

/// Gives the parties of one asset's and day's movements their places.
fn place(places: &mut HashMap<Account, Place>, group: &mut Vec<Large>) {
    let count = group.len();
    for (rank, Large { asset, from, to, kind, .. }) in group.drain(..).enumerate() {
        // Others have no balances of an amount.
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
