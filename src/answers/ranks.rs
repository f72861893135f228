//! One pass over the balances and the flows of all ranges, and its result: the largest holders of
//! each asset.

use super::holders::{ASSETS, Asset, HOLDERS, RankedHolder};
use super::sums::Summing;
use super::unseen::Unseen;
use crate::rows::address_flows::{self, Seen};
use crate::rows::balances::{self, Balance};
use crate::rows::{Rows, Table};
use crate::stop::Stop;
use crate::store::{
    GroupLimit, MergeInput, Range, Store, TableManifest, TableWriter, for_each_batch,
    for_each_merged, merge_sorted, table_path,
};
use alloy_primitives::{Address, U256, U512};
use anyhow::Result;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::fs;
use std::path::Path;

/// How many holders of each asset are shown.
pub(super) const SHOWN_MAX: usize = 10_000;

/// How many are considered for that: some turn out to be out of date.
pub(super) const TAKEN_MAX: usize = SHOWN_MAX + SHOWN_MAX / 5;

/// How many holders are ranked, and with how much memory.
#[derive(Clone, Copy, Debug)]
pub struct RankLimits {
    /// Per asset.
    pub of_asset: usize,
    /// Of all assets together. If there would be more, fewer are ranked per token.
    pub of_all: usize,
    /// Files read at once: at least two.
    pub files: usize,
    /// Tokens summed at once.
    pub tokens: usize,
}

impl Default for RankLimits {
    /// More per asset than are shown, because some have less by the time they are shown.
    fn default() -> Self {
        Self { of_asset: TAKEN_MAX, of_all: 1_000_000, files: 64, tokens: 200_000 }
    }
}

/// The ranking of these ranges; earlier balances are those after the blocks in `before`. Temporary
/// files go to `directory`, and every flow to `summing`.
///
/// # Errors
/// If a range cannot be read, or the directory cannot be written; and
/// [`Stopped`](crate::stop::Stopped).
pub(super) fn of(
    store: &Store,
    ranges: &[Range],
    before: [Option<u64>; 2],
    limits: RankLimits,
    directory: &Path,
    summing: &mut Summing,
    stop: &Stop,
) -> Result<Vec<Ranked>> {
    let last = ranges.last().map_or(0, |range| range.last);
    let unseen =
        [Some(last), before[0], before[1]].map(|last| Unseen::in_ranges(ranges, last.unwrap_or(0)));
    let mut ranked = rank(store, ranges, Ranks::new(before, unseen, limits), directory, stop)?;
    for (index, range) in ranges.iter().enumerate() {
        if range.rows(&address_flows::TABLE) > 0 {
            let path = range.file(store.root(), &address_flows::TABLE);
            see(&path, &mut ranked, summing, stop)?;
        }
        summing.end_range(store, range, ranges.get(index + 1), stop)?;
    }
    ranked.iter_mut().for_each(Ranked::leave_out_stale);
    Ok(ranked)
}

/// An asset and its largest holders, ascending by address.
#[derive(Debug)]
pub(super) struct Ranked {
    asset: Asset,
    holders: Vec<RankedHolder>,
}

/// One pass over the balances of all ranges.
fn rank(
    store: &Store,
    ranges: &[Range],
    mut ranks: Ranks,
    directory: &Path,
    stop: &Stop,
) -> Result<Vec<Ranked>> {
    let held = ranges.iter().filter(|range| range.rows(&balances::TABLE) > 0);
    let source = |range: &Range| MergeInput {
        path: range.file(store.root(), &balances::TABLE),
        rows: range.rows(&balances::TABLE),
    };
    let mut sources: Vec<_> = held.map(source).collect();
    // If there are too many files to read at once, merge some first.
    for number in 0.. {
        if sources.len() <= ranks.limits.files {
            break;
        }
        let some: Vec<_> = sources.drain(..ranks.limits.files).collect();
        let path = directory.join(format!("run{number}"));
        let mut writer = TableWriter::create(&path, &balances::TABLE, GroupLimit::USUAL)?;
        merge_sorted(&balances::TABLE, &some, &mut writer, stop)?;
        let (_, manifest) = writer.finish(|_| Vec::new())?;
        sources.push(MergeInput { path, rows: manifest.rows });
    }
    let mut count = 0_u64;
    for_each_merged(&sources, |balance: Balance| {
        ranks.take(&balance);
        count += 1;
        if count.is_multiple_of(65_536) {
            stop.check()?;
        }
        Ok(())
    })?;
    for source in sources.iter().filter(|source| source.path.starts_with(directory)) {
        fs::remove_file(&source.path)?;
    }
    Ok(ranks.finish())
}

/// Records the first and the last block in which ranked holders moved an asset, from one range's
/// flows, and sums these.
fn see(path: &Path, ranked: &mut [Ranked], summing: &mut Summing, stop: &Stop) -> Result<()> {
    let key = |asset: Option<Address>| (asset.is_none(), asset);
    // Both are in the same order: the asset's index and the holder's only ever grow.
    let (mut place, mut holder) = (0, 0);
    for_each_batch(path, &address_flows::SEEN, |batch| {
        address_flows::seen(batch, |flow| {
            summing.add(&flow);
            let Seen { asset, address, blocks: (first, last), .. } = flow;
            while place < ranked.len() && key(ranked[place].asset.asset) < key(asset) {
                (place, holder) = (place + 1, 0);
            }
            let Some(Ranked { holders, .. }) =
                ranked.get_mut(place).filter(|ranked| ranked.asset.asset == asset)
            else {
                return;
            };
            while holder < holders.len() && holders[holder].address < address {
                holder += 1;
            }
            if let Some(holder) = holders.get_mut(holder).filter(|holder| holder.address == address)
            {
                let seen = holder.seen.get_or_insert((first, last));
                *seen = (seen.0.min(first), seen.1.max(last));
            }
        })?;
        stop.check()?;
        Ok(true)
    })
}

/// Writes the tables of a ranking.
pub(super) fn write(
    directory: &Path,
    ranked: &[Ranked],
) -> Result<BTreeMap<String, TableManifest>> {
    let (limit, batch_rows) = (GroupLimit::USUAL, 8_192);
    let create = |table: &'static Table| {
        TableWriter::create(&table_path(directory, table.name), table, limit)
    };
    let (mut holders, mut assets) = (create(&HOLDERS)?, create(&ASSETS)?);
    for some in ranked.chunks(batch_rows) {
        let mut rows = Rows::new(&ASSETS);
        some.iter().try_for_each(|ranked| ranked.asset.push(&mut rows))?;
        assets.write(&rows.finish())?;
    }
    let all: Vec<_> = ranked
        .iter()
        .flat_map(|Ranked { asset, holders }| holders.iter().map(|it| (asset.asset, it)))
        .collect();
    for some in all.chunks(batch_rows) {
        let mut rows = Rows::new(&HOLDERS);
        some.iter().try_for_each(|(asset, holder)| holder.push(*asset, &mut rows))?;
        holders.write(&rows.finish())?;
    }
    let files = [holders.finish(|_| Vec::new())?, assets.finish(|_| Vec::new())?];
    Ok(files.into_iter().map(|(name, file)| (name.to_owned(), file)).collect())
}

/// Orders holders by balance; among equal balances the lower address is greater.
#[derive(Debug, PartialEq, Eq)]
struct Standing(RankedHolder);

impl Standing {
    fn place(&self) -> (U256, Reverse<Address>) {
        (self.0.balance, Reverse(self.0.address))
    }
}

impl Ord for Standing {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Standing {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Ranks holders whose balances arrive ordered by asset, address and block.
#[derive(Debug)]
struct Ranks {
    before: [Option<u64>; 2],
    /// Unobserved changes up to the last block, and up to the two earlier ones.
    unseen: [Unseen; 3],
    /// The current holder.
    holder: Option<RankedHolder>,
    /// The current asset, with its totals so far.
    asset: Option<Asset>,
    /// Its largest holders so far, the smallest of them on top.
    best: BinaryHeap<Reverse<Standing>>,
    done: Vec<Ranked>,
    ranked_count: usize,
    limits: RankLimits,
    /// How many holders per token are ranked by now.
    token_max: usize,
}

impl Ranks {
    fn new(before: [Option<u64>; 2], unseen: [Unseen; 3], limits: RankLimits) -> Self {
        Self {
            before,
            unseen,
            holder: None,
            asset: None,
            best: BinaryHeap::new(),
            done: Vec::new(),
            ranked_count: 0,
            limits,
            token_max: limits.of_asset,
        }
    }

    fn take(&mut self, balance: &Balance) {
        let Balance { asset, address, block_number, balance } = *balance;
        let is_same_asset = self.asset.as_ref().is_some_and(|known| known.asset == asset);
        if !is_same_asset || self.holder.as_ref().is_none_or(|holder| holder.address != address) {
            self.end_holder();
            if !is_same_asset {
                self.end_asset();
                self.asset =
                    Some(Asset { asset, address_count: 0, balance: U512::ZERO, least: None });
            }
            self.holder = Some(RankedHolder {
                address,
                balance,
                block_number,
                before: [None; 2],
                seen: None,
            });
        }
        let Some(holder) = &mut self.holder else { return };
        (holder.balance, holder.block_number) = (balance, block_number);
        for ((before, last), unseen) in
            holder.before.iter_mut().zip(self.before).zip(&self.unseen[1..])
        {
            if last.is_some_and(|last| block_number <= last) {
                *before = unseen.holds(asset, block_number).then_some(balance);
            }
        }
    }

    fn end_holder(&mut self) {
        let (Some(holder), Some(asset)) = (self.holder.take(), &mut self.asset) else { return };
        if !self.unseen[0].holds(asset.asset, holder.block_number) {
            return;
        }
        asset.address_count += 1;
        asset.balance += U512::from(holder.balance);
        if holder.balance.is_zero() {
            return;
        }
        self.best.push(Reverse(Standing(holder)));
        let max = if asset.asset.is_some() { self.token_max } else { self.limits.of_asset };
        if self.best.len() > max {
            self.best.pop();
            asset.least = Some((U256::ZERO, Address::ZERO));
        }
    }

    fn end_asset(&mut self) {
        let Some(mut asset) = self.asset.take() else { return };
        // Not all are ranked; the last one is set here.
        asset.least = asset
            .least
            .and(self.best.peek())
            .map(|Reverse(Standing(last))| (last.balance, last.address));
        let mut holders: Vec<_> =
            self.best.drain().map(|Reverse(Standing(holder))| holder).collect();
        holders.sort_unstable_by_key(|holder| holder.address);
        self.ranked_count += holders.len();
        self.done.push(Ranked { asset, holders });
        while self.ranked_count > self.limits.of_all && self.token_max > 1 {
            self.token_max /= 2;
            let tokens = self.done.iter_mut().filter(|ranked| ranked.asset.asset.is_some());
            self.ranked_count -= tokens.map(|ranked| ranked.cut(self.token_max)).sum::<usize>();
        }
    }

    fn finish(mut self) -> Vec<Ranked> {
        self.end_holder();
        self.end_asset();
        self.done
    }
}

impl Ranked {
    /// Leaves out holders who moved a token after the last block for which their balance of it is
    /// stored.
    fn leave_out_stale(&mut self) {
        let is_stale = |holder: &&RankedHolder| {
            holder.seen.is_some_and(|(_, last)| last > holder.block_number)
        };
        for holder in self.holders.iter().filter(is_stale).filter(|_| self.asset.asset.is_some()) {
            self.asset.address_count -= 1;
            self.asset.balance -= U512::from(holder.balance);
        }
    }

    /// Keeps this many of the largest; returns how many were dropped.
    fn cut(&mut self, max: usize) -> usize {
        let gone = self.holders.len().saturating_sub(max);
        if gone > 0 {
            let mut placed: Vec<_> = self.holders.drain(..).map(Standing).collect();
            placed.sort_unstable_by(|one, other| other.cmp(one));
            placed.truncate(max);
            self.asset.least = placed.last().map(|Standing(last)| (last.balance, last.address));
            self.holders.extend(placed.into_iter().map(|Standing(holder)| holder));
            self.holders.sort_unstable_by_key(|holder| holder.address);
        }
        gone
    }
}
