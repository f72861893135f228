//! Stored history: the sealed ranges, those that are damaged, and pieces that could not be built.

use super::rebuild::{self, Rebuild};
use super::settings::{Settings, Task};
use crate::clock::now;
use crate::error::Refused;
use crate::store::{
    BlockLink, Damaged, Hash, Identity, Manifest, RANGE_MIN, Range, Store, missing_or_cut, unlinked,
};
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long before a failed piece is retried.
pub(super) const RETRY: Duration = Duration::from_secs(600);

/// How long a reader may use an older published file.
pub(super) const GRACE: Duration = Duration::from_secs(600);

/// Something that could not be built.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// `failed` or `missing`.
    pub status: &'static str,
    pub reason: String,
    retry_at: Instant,
}

impl Failure {
    /// A failure to be retried later.
    pub(super) fn new(status: &'static str, reason: String) -> Self {
        Self { status, reason, retry_at: Instant::now() + RETRY }
    }

    /// Whether it is too early to retry.
    pub(super) fn is_resting(&self) -> bool {
        self.retry_at > Instant::now()
    }
}

/// Stored history.
#[derive(Debug)]
pub(super) struct Sealed {
    store: Arc<Store>,
    keep_days: Option<u64>,
    /// The first requested block, a multiple of [`RANGE_MIN`].
    pub requested_first: u64,
    /// The last requested block, if there is a limit.
    pub requested_last: Option<u64>,
    /// Sealed ranges, ascending.
    pub ranges: Vec<Range>,
    /// Damaged ranges in quarantine, to be rebuilt.
    pub rebuilds: Vec<Rebuild>,
    /// Pieces that could not be built, by first and last block.
    pub failures: BTreeMap<(u64, u64), Failure>,
}

impl Sealed {
    /// Opens the store's ranges; damaged ones go to quarantine.
    pub(super) fn open(
        store: Arc<Store>,
        identity: Identity,
        requested_first: u64,
        settings: &Settings,
    ) -> Result<Self> {
        let requested_last = match settings.task {
            Task::Backfill { last } => last,
            Task::Follow { .. } => None,
        };
        if let Some(last) = requested_last.filter(|last| *last < requested_first) {
            let range = format!("blocks {requested_first} to {last} are an empty range");
            return Err(Refused::new(range, "give a `--to` that is not below `--from`").into());
        }
        let (ranges, rebuilds) = rebuild::open(&store, identity)?;
        let keep_days = settings.keep_days;
        Ok(Self {
            store,
            keep_days,
            requested_first,
            requested_last,
            ranges,
            rebuilds,
            failures: BTreeMap::new(),
        })
    }

    /// Extends the request to everything stored up to the tip, so that this run of blocks never
    /// gets a gap above it, and to what was lost of it since the last heartbeat. `tail_first` is
    /// the lowest block of the tail, `run_first` the first one of the run at that time.
    pub(super) fn want_what_is_stored(&mut self, tail_first: Option<u64>, run_first: Option<u64>) {
        let tail_first = tail_first.map(|number| number / RANGE_MIN * RANGE_MIN);
        let mut stored_first = tail_first.or(self.ranges.last().map(|range| range.last + 1));
        for range in self.ranges.iter().rev() {
            if stored_first == Some(range.last + 1) {
                stored_first = Some(range.first);
            }
        }
        if self.keep_days.is_some() {
            // Older ranges were dropped.
            stored_first = self.ranges.first().map(|range| range.first).or(tail_first);
        } else if let Some(run_first) = run_first {
            stored_first = stored_first
                .map(|stored_first| stored_first.min(run_first / RANGE_MIN * RANGE_MIN));
        }
        if let Some(stored_first) = stored_first
            && (self.keep_days.is_some() || stored_first < self.requested_first)
        {
            self.requested_first = stored_first;
        }
    }

    /// The last sealed block.
    pub(super) fn top(&self) -> Option<BlockLink> {
        self.ranges.last().map(|range| BlockLink {
            number: range.last,
            hash: range.manifest.last_hash,
            parent_hash: range.manifest.first_parent_hash,
            timestamp: range.manifest.last_timestamp,
        })
    }

    /// Whether a block is in a sealed range.
    pub(super) fn has(&self, number: u64) -> bool {
        let below = self.ranges.partition_point(|range| range.first <= number);
        below > 0 && self.ranges[below - 1].last >= number
    }

    /// Refuses ranges that do not link: one of them is of another chain.
    pub(super) fn check_links(&self) -> Result<()> {
        let Some((below, above)) = unlinked(&self.ranges).next() else { return Ok(()) };
        let (data, [below_path, above_path]) =
            (self.store.root().display(), [below, above].map(|range| range.path.display()));
        let what = format!(
            "sealed blocks {} to {} do not link to those below them; nothing was touched",
            above.first, above.last
        );
        let hint = format!(
            "`{below_path}` or `{above_path}` is of another chain: `spyhop verify --data {data} \
            --ipc SOCKET --repair` rebuilds the wrong one, \
             `spyhop rewind --data {data} --to {}` moves the upper one and all above to quarantine",
            below.last
        );
        Err(Refused::new(what, hint).into())
    }

    /// Checks that a new range links to its neighbours before it is committed.
    pub(super) fn check_neighbours(&self, new: &Manifest) -> Result<()> {
        let below = self.ranges.iter().find(|other| other.last + 1 == new.first);
        let above = self.ranges.iter().find(|other| other.first == new.last + 1);
        let links = below.is_none_or(|below| below.manifest.last_hash == new.first_parent_hash)
            && above.is_none_or(|above| above.manifest.first_parent_hash == new.last_hash);
        if links {
            return Ok(());
        }
        let (first, last, data) = (new.first, new.last, self.store.root().display());
        Err(Refused::new(
            format!(
                "blocks {first} to {last} do not link to their stored neighbours; nothing was \
                touched"
            ),
            format!(
                "the node's chain contradicts what is stored: is this the right node? if it is, \
                `spyhop rewind --data {data} --to {}` moves what is above to quarantine",
                first.saturating_sub(1)
            ),
        )
        .into())
    }

    /// Adds a committed range, replacing those within it and clearing failures there.
    pub(super) fn add(&mut self, range: Range) {
        self.failures.retain(|(first, last), _| *last < range.first || *first > range.last);
        self.rebuilds.retain(|rebuild| !rebuild.overlaps(range.first, range.last));
        self.ranges.retain(|stored| stored.first < range.first || stored.last > range.last);
        let at = self.ranges.partition_point(|stored| stored.first < range.first);
        self.ranges.insert(at, range);
    }

    /// Records why a piece is not stored, to be retried later.
    pub(super) fn note_failure(
        &mut self,
        (first, last): (u64, u64),
        status: &'static str,
        reason: String,
    ) {
        tracing::warn!(first, last, status, reason, "range is not stored");
        self.failures.insert((first, last), Failure::new(status, reason));
    }

    /// Whether a piece failed and it is too early to retry.
    pub(super) fn is_resting(&self, blocks: (u64, u64)) -> bool {
        self.failures.get(&blocks).is_some_and(Failure::is_resting)
    }

    /// The first piece that failed its check.
    pub(super) fn first_failed(&self) -> Option<(u64, u64, &str)> {
        let failed = self.failures.iter().find(|(_, failure)| failure.status == "failed");
        failed.map(|(&(first, last), failure)| (first, last, &failure.reason[..]))
    }

    /// First and last block of ranges, of failed pieces that are not yet retried, and of ranges
    /// being rebuilt; ascending.
    pub(super) fn settled(&self) -> Vec<(u64, u64)> {
        let mut settled: Vec<_> =
            self.ranges.iter().map(|range| (range.first, range.last)).collect();
        settled.extend(
            self.failures
                .iter()
                .filter(|(_, failure)| failure.is_resting())
                .map(|(blocks, _)| *blocks),
        );
        settled.extend(self.rebuilds_requested().map(|rebuild| (rebuild.first, rebuild.last)));
        settled.sort_unstable();
        settled.dedup();
        settled
    }

    /// The requested ranges that are to be rebuilt.
    pub(super) fn rebuilds_requested(&self) -> impl Iterator<Item = &Rebuild> {
        let lowest = self
            .ranges
            .first()
            .map_or(self.requested_first, |range| range.first.min(self.requested_first));
        self.rebuilds.iter().filter(move |rebuild| rebuild.first >= lowest)
    }

    /// Where a tail begins whose lowest file is of this block: above everything that is sealed,
    /// failed, or final and so to be built as a range. `finalized_seen` says whether the node ever
    /// named a finalized block.
    pub(super) fn tail_start(
        &self,
        lowest: u64,
        finalized: Option<u64>,
        finalized_seen: bool,
    ) -> u64 {
        let hundred = lowest / RANGE_MIN * RANGE_MIN;
        let settled = self.settled().last().map(|(_, last)| last + 1);
        let wanted = if settled.is_some() {
            self.requested_first
        } else {
            self.requested_first.min(hundred)
        };
        let built = match finalized {
            Some(finalized) => finalized.saturating_add(1) / RANGE_MIN * RANGE_MIN,
            // The node will report it later.
            None if finalized_seen => hundred,
            None => 0,
        };
        settled.unwrap_or(0).max(wanted).max(built.min(hundred)).min(lowest)
    }

    /// The published ranges: those within `--keep`, measured from the last stored block.
    pub(super) fn kept(&self, tip: Option<BlockLink>) -> &[Range] {
        let limit = self.keep_limit(tip).unwrap_or(0);
        let older =
            self.ranges.iter().take_while(|range| range.manifest.last_timestamp < limit).count();
        &self.ranges[older..]
    }

    /// The timestamp before which blocks are not kept: measured from the last proved block, and
    /// never from a future time.
    fn keep_limit(&self, tip: Option<BlockLink>) -> Option<u64> {
        let kept = self.keep_days?.saturating_mul(86_400);
        Some(tip?.timestamp.min(now()).saturating_sub(kept))
    }

    /// Deletes ranges older than `--keep`, once no reader uses them. Returns whether there were
    /// any.
    pub(super) fn drop_old(&mut self, tip: Option<BlockLink>) -> Result<bool> {
        let Some(limit) = self.keep_limit(tip) else { return Ok(false) };
        let is_old =
            |range: &&Range| range.manifest.last_timestamp.saturating_add(GRACE.as_secs()) < limit;
        let gone = self.ranges.iter().take_while(is_old).count();
        for range in self.ranges.drain(..gone) {
            self.store.delete_directory(&range.path)?;
            self.requested_first = range.last + 1;
        }
        self.rebuilds.retain(|rebuild| gone == 0 || rebuild.first >= self.requested_first);
        Ok(gone > 0)
    }

    /// Moves a damaged range to quarantine and records that it is to be rebuilt. Returns whether it
    /// still existed: others may have replaced it.
    pub(super) fn quarantine(&mut self, damaged: &Damaged) -> Result<bool> {
        let Some(range) = self.ranges.iter().find(|range| range.path == damaged.path).cloned()
        else {
            return Ok(false);
        };
        let moved = self.store.quarantine_damaged(&range.path, &damaged.reason)?;
        // Ranges that it had replaced count again, if they are intact: a previous generation may
        // share the very same file.
        let losers = self.store.all_ranges()?.into_iter();
        for loser in losers.filter(|loser| range.first <= loser.first && loser.last <= range.last) {
            if let Err(error) = self.store.check(&loser, |_| true, Hash::All) {
                match error.downcast_ref::<Damaged>() {
                    Some(Damaged { reason, .. }) => {
                        self.store.quarantine_damaged(&loser.path, reason)?
                    }
                    None => return Err(error),
                };
            }
        }
        self.ranges = self.store.readable_ranges()?.0;
        let rebuild = Rebuild::new(self.store.root(), (range.first, range.last, moved))?;
        if !self.ranges.iter().any(|range| rebuild.overlaps(range.first, range.last)) {
            self.rebuilds.push(rebuild);
        }
        Ok(true)
    }

    /// Moves ranges that publishing found damaged to quarantine, and records that they are to be
    /// rebuilt.
    pub(super) fn quarantine_all(&mut self, damaged: &[Damaged]) -> Result<()> {
        for Damaged { path, reason } in damaged {
            let at = self.ranges.iter().position(|range| range.path == *path);
            let Some(range) = at.map(|at| self.ranges.remove(at)) else { continue };
            let moved = self.store.quarantine_damaged(&range.path, reason)?;
            self.rebuilds.push(Rebuild::new(self.store.root(), (range.first, range.last, moved))?);
        }
        Ok(())
    }

    /// The damaged ones among the ranges that publishing opens; `read_first` is the one it reads
    /// first.
    pub(super) fn damage_met(
        &self,
        error: &anyhow::Error,
        read_first: Option<&Path>,
    ) -> Result<Vec<Damaged>> {
        let text = format!("{error:#}");
        let mut damaged = Vec::new();
        for range in &self.ranges {
            let reason = missing_or_cut(self.store.root(), &range.path, &range.manifest)?;
            // DuckDB reads the first file of a view, and names others that it rejects.
            let is_read = read_first == Some(range.path.as_path())
                || text.contains(&range.path.display().to_string());
            match reason {
                Some(reason) => damaged.push(Damaged { path: range.path.clone(), reason }),
                None if is_read => {
                    if let Err(error) = self.store.check(range, |_| true, Hash::All) {
                        damaged.push(error.downcast()?);
                    }
                }
                None => {}
            }
        }
        Ok(damaged)
    }

    /// The first block of the run that ends at the tip.
    pub(super) fn run_first(&self, tail_first: Option<u64>, tip: Option<BlockLink>) -> Option<u64> {
        let mut first = tail_first.or(self.ranges.last().map(|range| range.last + 1))?;
        for range in self.kept(tip).iter().rev() {
            if range.last + 1 == first {
                first = range.first;
            }
        }
        Some(first)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use alloy_primitives::{B256, U256};
    use serde_json::json;
    use std::path::PathBuf;

    const DAY_S: u64 = 86_400;

    fn hash(number: u64) -> B256 {
        U256::from(number).into()
    }

    /// A range whose blocks have their numbers as hashes and are one second apart.
    fn range(first: u64, last: u64) -> Range {
        let manifest = json!({
            "format": 2, "chain_id": 1, "genesis_hash": hash(0), "spyhop_version": "",
            "first": first, "first_parent_hash": hash(first.saturating_sub(1)),
            "last": last, "last_hash": hash(last), "last_timestamp": last,
            "tables": {},
        });
        let manifest = serde_json::from_value(manifest).unwrap();
        Range {
            first,
            last,
            generation: 1,
            path: PathBuf::from(format!("{first}-{last}")),
            manifest,
        }
    }

    /// Calls `check` with these ranges on a temporary volume.
    fn with(ranges: &[(u64, u64)], check: impl FnOnce(&mut Sealed)) {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let ranges = ranges.iter().map(|(first, last)| range(*first, *last)).collect();
        let (rebuilds, failures) = (Vec::new(), BTreeMap::new());
        check(&mut Sealed {
            store,
            keep_days: None,
            requested_first: 0,
            requested_last: None,
            ranges,
            rebuilds,
            failures,
        });
    }

    fn blocks(ranges: &[Range]) -> Vec<(u64, u64)> {
        ranges.iter().map(|range| (range.first, range.last)).collect()
    }

    #[test]
    fn a_range_replaces_those_within_it_and_clears_failures_there() {
        with(&[(0, 99), (100, 199), (1_000, 1_099)], |sealed| {
            sealed.note_failure((200, 299), "failed", "a reason".to_owned());
            sealed.note_failure((1_100, 1_199), "missing", "pruned".to_owned());
            assert!(sealed.is_resting((200, 299)) && !sealed.is_resting((300, 399)));
            assert_eq!(
                sealed.settled(),
                [(0, 99), (100, 199), (200, 299), (1_000, 1_099), (1_100, 1_199)]
            );
            assert_eq!(sealed.first_failed(), Some((200, 299, "a reason")));
            sealed.add(range(0, 999));
            assert_eq!(blocks(&sealed.ranges), [(0, 999), (1_000, 1_099)]);
            assert_eq!(sealed.settled(), [(0, 999), (1_000, 1_099), (1_100, 1_199)]);
            assert_eq!(sealed.first_failed(), None);
            assert_eq!(sealed.top().map(|top| top.number), Some(1_099));
            assert!(sealed.has(0) && sealed.has(999) && sealed.has(1_099) && !sealed.has(1_100));
        });
    }

    #[test]
    fn a_range_must_link_to_its_neighbours() {
        with(&[(0, 99), (200, 299)], |sealed| {
            let mut between = range(100, 199).manifest;
            sealed.check_neighbours(&between).unwrap();
            between.last_hash = hash(7);
            assert!(sealed.check_neighbours(&between).unwrap_err().is::<Refused>());
            between.last_hash = hash(199);
            between.first_parent_hash = hash(7);
            assert!(sealed.check_neighbours(&between).is_err());
            sealed.check_neighbours(&range(300, 399).manifest).unwrap();
        });
    }

    #[test]
    fn a_tail_begins_above_sealed_and_final_blocks() {
        let check = |ranges: &[(u64, u64)], lowest, finalized, finalized_seen, expected| {
            with(ranges, |sealed| {
                assert_eq!(sealed.tail_start(lowest, finalized, finalized_seen), expected)
            });
        };
        // Blocks missing below the lowest file are a hole.
        check(&[(0, 99)], 100, None, true, 100);
        check(&[(0, 99)], 103, None, true, 100);
        check(&[(0, 99)], 103, Some(50), true, 100);
        // Final blocks are built as ranges, in hundreds.
        check(&[(0, 99)], 250, Some(220), true, 200);
        check(&[(0, 99)], 250, Some(1_000), true, 200);
        check(&[], 250, Some(120), true, 100);
        check(&[], 250, None, true, 200);
        check(&[], 250, None, false, 0);
    }

    #[test]
    fn the_stored_run_of_blocks_stays_requested() {
        let check = |ranges: &[(u64, u64)], wanted, tail_first, run_first, expected| {
            with(ranges, |sealed| {
                sealed.requested_first = wanted;
                sealed.want_what_is_stored(tail_first, run_first);
                assert_eq!(
                    sealed.requested_first, expected,
                    "{ranges:?} {wanted} {tail_first:?} {run_first:?}"
                );
            });
        };
        check(&[], 500, None, None, 500);
        check(&[(0, 99), (100, 199)], 500, None, None, 0);
        check(&[(0, 99), (100, 199)], 500, Some(207), None, 0);
        check(&[(0, 99), (200, 299)], 500, Some(307), None, 200);
        check(&[(200, 299)], 0, Some(307), None, 0);
        // Lost since the last heartbeat.
        check(&[(200, 299)], 500, Some(307), Some(130), 100);
    }

    #[test]
    fn ranges_older_than_keep_are_not_published() {
        with(&[(0, 99), (100, DAY_S), (DAY_S + 1, 2 * DAY_S)], |sealed| {
            let tip = sealed.top();
            assert_eq!(sealed.kept(tip).len(), 3);
            assert_eq!(sealed.run_first(None, tip), Some(0));
            sealed.keep_days = Some(1);
            assert_eq!(blocks(sealed.kept(tip)), [(100, DAY_S), (DAY_S + 1, 2 * DAY_S)]);
            assert_eq!(sealed.run_first(None, tip), Some(100));
            // A future time counts as now, and these blocks are of 1970.
            let of_the_future = tip.map(|tip| BlockLink { timestamp: u64::MAX, ..tip });
            assert!(sealed.kept(of_the_future).is_empty());
        });
    }
}
