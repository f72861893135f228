//! No block is missing below another without a word: what is stored up to the tip is one run of blocks, or `coverage` names what is
//! missing.
//!
//! The tail is taken up from its lower end, block by block, as each links to the one below; a block of it that is gone is fetched
//! again first, with what the node still tells of its state. How far down the run goes is in the heartbeat, so that it can be seen
//! without a writer, and by the next one, whether a part of it was lost.

use super::fetch::FetchError;
use super::progress::Heartbeat;
use super::session::Session;
use crate::error::{Failed, Refused};
use crate::geth::{Head, Tag};
use crate::plan::{Piece, Source};
use crate::rows::Gap;
use crate::store::{BlockLink, RANGE_MIN, read_readable_ranges, tail, unlinked};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::Duration;

impl Session {
    /// Refuses ranges that do not link: one of them is of another chain.
    pub fn check_ranges(&self) -> Result<()> {
        let Some((below, above)) = unlinked(&self.ranges).next() else { return Ok(()) };
        let (data, [below_path, above_path]) =
            (self.store.root().display(), [below, above].map(|range| range.path.display()));
        let what = format!(
            "sealed blocks {} to {} do not link to those below them; nothing was touched",
            above.first, above.last
        );
        let hint = format!(
            "`{below_path}` or `{above_path}` is of another chain: `spyhop verify --data {data} --ipc SOCKET --repair` builds the wrong one again, \
             `spyhop rewind --data {data} --to {}` moves the upper one and all above to quarantine",
            below.last
        );
        Err(Refused::new(what, hint).into())
    }

    /// Takes up the tail's files, each when it links to the block below. Returns the first and last block of a hole that is to be
    /// filled before it can go on.
    pub async fn take_up_tail(&mut self) -> Result<Option<(u64, u64)>, FetchError> {
        self.hole = self.next_hole().await?;
        self.taken_up = true;
        Ok(self.hole)
    }

    /// Takes up all of the tail, and fetches what is missing of it as far as the node has it.
    pub async fn fill_tail(&mut self, head: Head) -> Result<(), FetchError> {
        while self.take_up_tail().await?.is_some() && self.follow(head).await? {}
        self.hole = None;
        Ok(())
    }

    async fn next_hole(&mut self) -> Result<Option<(u64, u64)>, FetchError> {
        while let Some(&(BlockLink { number: lowest, .. }, _)) = self.loose.first() {
            let next = match self.tail.last() {
                Some(tip) => tip.number + 1,
                None => self.tail_start(lowest),
            };
            if next < lowest {
                return Ok(Some((next, lowest - 1)));
            }
            let below = self.tail.last().copied().or_else(|| self.sealed()).filter(|below| below.number + 1 == lowest);
            let level = self.loose.partition_point(|(link, _)| link.number == lowest);
            let links =
                |link: &BlockLink| link.number == next && below.is_none_or(|below| link.parent_hash == below.hash);
            let mut candidates = (0..level).filter(|index| links(&self.loose[*index].0));
            let (first, second) = (candidates.next(), candidates.next());
            let chosen = match second {
                None => first,
                Some(_) => {
                    // After a crash: the node says which.
                    let hash = self.client.head(Tag::Number(lowest)).await.map_err(FetchError::Away)?.hash;
                    (0..level).find(|index| self.loose[*index].0.hash == hash)
                }
            };
            for (index, (link, gaps)) in self.loose.drain(..level).enumerate() {
                if Some(index) == chosen {
                    self.tail.push(link);
                    gaps.into_iter().for_each(|gap| Gap::push(&mut self.tail_gaps, gap));
                } else {
                    tracing::warn!(block = link.number, hash = %link.hash, "block of the tail does not link to the one below, moved to quarantine");
                    self.store.quarantine_path(&tail::path(link.number, link.hash), "unlinked")?;
                }
            }
        }
        Ok(None)
    }

    /// Where a tail begins whose lowest file is of this block: above what is sealed, or failed, or is final and so to be built as a
    /// range.
    fn tail_start(&self, lowest: u64) -> u64 {
        let hundred = lowest / RANGE_MIN * RANGE_MIN;
        let settled = self.known().settled.last().map(|(_, last)| last + 1);
        let wanted = if settled.is_some() { self.wanted_first } else { self.wanted_first.min(hundred) };
        let built = match self.finalized {
            Some(finalized) => finalized.saturating_add(1) / RANGE_MIN * RANGE_MIN,
            // The node will say so later.
            None if self.chain.finalized_seen => hundred,
            None => 0,
        };
        settled.unwrap_or(0).max(wanted).max(built.min(hundred)).min(lowest)
    }

    /// Whether the tail has a hole that is being filled: what is published stays as it is meanwhile, and nothing is built.
    pub fn is_filling(&self) -> bool {
        !self.taken_up || (self.hole.is_some() && self.is_anchored())
    }

    /// Goes on above a hole that the node cannot fill any more.
    pub fn leave_hole(&mut self, (first, last): (u64, u64), trouble: FetchError) -> Result<(), FetchError> {
        let first = self.tail.first().map_or(first, |link| link.number);
        self.note_failure(Piece { first, last, source: Source::Node }, trouble)?;
        self.tail.clear();
        self.tail_gaps.clear();
        Ok(())
    }

    /// What is wrong while a hole is.
    pub fn hole_reason(&self) -> Option<String> {
        let (first, last) = self.hole?;
        Some(format!("blocks {first} to {last} of the tail are missing, and are fetched again"))
    }

    /// Makes sure of the run of blocks that is to be published: a bug would else be published too.
    pub fn check_contiguity(&self) -> Result<()> {
        let follows = |below: &BlockLink, above: &BlockLink| {
            ensure!(
                above.number == below.number + 1 && above.parent_hash == below.hash,
                "block {} of the tail does not follow on block {}; start again, and verify the data",
                above.number,
                below.number
            );
            Ok(())
        };
        self.tail.windows(2).try_for_each(|pair| follows(&pair[0], &pair[1]))?;
        let (Some(first), Some(sealed)) = (self.tail.first(), self.sealed()) else { return Ok(()) };
        if first.number == sealed.number + 1 {
            follows(&sealed, first)?;
        }
        Ok(())
    }

    /// The first block of the run that ends at the tip.
    pub fn run_first(&self) -> Option<u64> {
        let mut first = self.tail.first().map(|link| link.number).or(self.ranges.last().map(|range| range.last + 1))?;
        for range in self.ranges[self.kept()..].iter().rev() {
            if range.last + 1 == first {
                first = range.first;
            }
        }
        Some(first)
    }
}

/// First and last block of what is missing on the volume of the run of blocks that its last writer left.
///
/// # Errors
/// Where the volume cannot be read.
pub fn holes(root: &Path) -> Result<Vec<(u64, u64)>> {
    /// While a writer is at work, a look may come between two of its steps.
    const LOOKS: usize = 3;
    let mut found = Vec::new();
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
        found = look_for_holes(root)?;
        if found.is_empty() {
            break;
        }
    }
    Ok(found)
}

fn look_for_holes(root: &Path) -> Result<Vec<(u64, u64)>> {
    let run_first = Heartbeat::read(root).and_then(|heartbeat| heartbeat.run_first);
    // The tail before the ranges: what is sealed meanwhile is then seen in one of them, if not in both.
    let numbers: Vec<_> = tail::paths(root)?.iter().filter_map(|path| tail::number_of(path)).collect();
    let (ranges, unreadable) = read_readable_ranges(root)?;
    let mut stored: Vec<_> = numbers.iter().map(|number| (*number, *number)).collect();
    stored.extend(ranges.iter().map(|range| (range.first, range.last)));
    stored.extend(unreadable.iter().map(|range| (range.first, range.last)));
    stored.sort_unstable();
    // Without a heartbeat, what is sure is that the tail begins with a hundred.
    let lowest = numbers.first().map(|number| number / RANGE_MIN * RANGE_MIN);
    let Some(mut next) = run_first.or(lowest) else { return Ok(Vec::new()) };
    let mut holes = Vec::new();
    for (first, last) in stored {
        if next < first {
            holes.push((next, first - 1));
        }
        next = next.max(last.saturating_add(1));
    }
    Ok(holes)
}

/// An error where the volume lacks blocks that its last writer had.
pub fn check(root: &Path) -> Result<()> {
    if let Some((first, last)) = holes(root)?.first() {
        let what = format!("blocks {first} to {last} are missing, though they were stored");
        return Err(Failed::new(what, "`spyhop watch` fetches them again").into());
    }
    Ok(())
}
