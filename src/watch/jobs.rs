//! What is done in the background: ranges that are being built, a merge, a ranking of holders.

use super::abort::AbortOnDrop;
use super::builder::{Builder, Job};
use super::error::FetchError;
use super::progress::Rates;
use super::sealed::{Failure, RETRY};
use super::space::Estimate;
use crate::answers::{RankLimits, Ranking};
use crate::log::phase;
use crate::plan::{Piece, Source};
use crate::rows::Selection;
use crate::store::{Finished, Merge, Range, next_merge};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is done in the background.
#[derive(Debug)]
pub struct Jobs {
    pub builder: Builder,
    /// Ranges that are being built, in the order they were planned in.
    under_way: Vec<UnderWay>,
    merging: Option<Merging>,
    /// Merges that failed, by first and last block.
    unmerged: BTreeMap<(u64, u64), Failure>,
    ranking: Option<AbortOnDrop<Result<Ranking, FetchError>>>,
    /// When a ranking is tried again after it failed.
    ranking_retry_at: Option<Instant>,
    /// First blocks of pieces that the freezer or an era file did not give, and why: they come from
    /// the node.
    freezer_failures: BTreeMap<u64, String>,
    pub rates: Rates,
    pub estimate: Estimate,
    /// When there was last looked for what can be deleted.
    collected_at: Option<Instant>,
}

/// A range that is being built.
#[derive(Debug)]
struct UnderWay {
    job: Job,
    task: AbortOnDrop<Result<Finished, FetchError>>,
    /// Set when it has all it needs of the node, and is only being written.
    drained: Arc<AtomicBool>,
}

impl UnderWay {
    fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }
}

/// A merge that is being made.
#[derive(Debug)]
struct Merging {
    blocks: (u64, u64),
    task: AbortOnDrop<Result<Range, FetchError>>,
}

/// A merge that has ended: first and last block, and what came of it.
pub type Merged = ((u64, u64), Result<Range, FetchError>);

impl Jobs {
    /// None is under way.
    pub fn new(builder: Builder, ranges: &[Range]) -> Self {
        Self {
            builder,
            under_way: Vec::new(),
            merging: None,
            unmerged: BTreeMap::new(),
            ranking: None,
            ranking_retry_at: None,
            freezer_failures: BTreeMap::new(),
            rates: Rates::new(),
            estimate: Estimate::from(ranges),
            collected_at: None,
        }
    }

    /// Starts to build a range, after those under way.
    pub fn start(&mut self, job: Job) {
        self.start_at(self.under_way.len(), job);
    }

    fn start_at(&mut self, index: usize, job: Job) {
        let drained = Arc::new(AtomicBool::new(false));
        let task = AbortOnDrop::spawn(self.builder.clone().build(job.clone(), drained.clone()));
        self.under_way.insert(index, UnderWay { job, task, drained });
    }

    /// A range that has ended and can be put in its place next: the first one under way where they
    /// go `in_order`, else any.
    pub async fn next_built(
        &mut self,
        in_order: bool,
    ) -> Option<(Job, Result<Finished, FetchError>)> {
        while let Some(index) = self.ended(in_order) {
            let UnderWay { job, task, .. } = self.under_way.remove(index);
            match task.await.unwrap_or_else(|error| Err(error.into())) {
                Err(FetchError::Freezer(reason)) => {
                    let Piece { first, last, .. } = job.piece;
                    tracing::warn!(
                        first,
                        last,
                        reason,
                        "the freezer failed, these blocks come from the node"
                    );
                    self.freezer_failures.insert(first, reason);
                    let piece = Piece { source: Source::Node, ..job.piece };
                    // In its old place, so that nothing overtakes it.
                    self.start_at(index, Job { piece, ..job });
                }
                built => return Some((job, built)),
            }
        }
        None
    }

    fn ended(&self, in_order: bool) -> Option<usize> {
        let candidates = if in_order { 1 } else { usize::MAX };
        self.under_way.iter().take(candidates).position(|under_way| under_way.task.is_finished())
    }

    /// The pieces under way.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.under_way.iter().map(|under_way| under_way.job.piece)
    }

    /// Whether a worker is free.
    pub fn has_worker(&self, workers: usize) -> bool {
        // One that is only being written needs no worker's core.
        self.under_way.iter().filter(|under_way| !under_way.is_drained()).count() < workers
    }

    /// Whether another range may come from the node or the tail. Those keep every core busy by
    /// themselves, so there is one at a time, and the one after it while it is only being written.
    pub fn has_node(&self) -> bool {
        let mut others =
            self.under_way.iter().filter(|other| other.job.piece.source != Source::Freezer);
        others.clone().count() <= 1 && others.all(UnderWay::is_drained)
    }

    /// Where a piece comes from, after what failed: what the freezer did not give, and what is
    /// traced, comes from the node.
    pub fn source(&self, piece: Piece, is_traced: bool) -> Piece {
        let is_given = !is_traced && !self.freezer_failures.contains_key(&piece.first);
        match piece.source {
            Source::Freezer if !is_given => Piece { source: Source::Node, ..piece },
            _ => piece,
        }
    }

    /// Why the freezer did not give a piece, where it was asked. It is asked once more next time:
    /// somebody may have mended it.
    pub fn take_freezer_failure(&mut self, piece: Piece) -> Option<String> {
        self.freezer_failures.remove(&piece.first)
    }

    /// The next merge that has not failed just now; none while one is being made.
    pub fn next_merge(&self, ranges: &[Range], tables: Selection) -> Option<Merge> {
        if self.merging.is_some() {
            return None;
        }
        let resting: Vec<_> = self.unmerged.iter().filter(|(_, failure)| failure.rests()).collect();
        let rests = |range: &&Range| {
            resting.iter().any(|((first, last), _)| *first <= range.first && range.last <= *last)
        };
        let ranges: Vec<_> = ranges.iter().filter(|range| !rests(range)).cloned().collect();
        next_merge(&ranges, tables)
    }

    /// Starts to merge ranges.
    pub fn start_merge(&mut self, merge: Merge) {
        let blocks = merge.blocks();
        self.merging =
            Some(Merging { blocks, task: AbortOnDrop::spawn(self.builder.clone().merge(merge)) });
    }

    /// A merge that has ended.
    pub async fn next_merged(&mut self) -> Option<Merged> {
        let Merging { blocks, task } =
            self.merging.take_if(|merging| merging.task.is_finished())?;
        let merged = task.await.unwrap_or_else(|error| Err(error.into()));
        if merged.is_ok() {
            self.unmerged.remove(&blocks);
        }
        Some((blocks, merged))
    }

    /// Notes that a merge failed, to be tried again later: its sources are there and stay.
    pub fn note_unmerged(&mut self, (first, last): (u64, u64), error: &anyhow::Error) {
        let reason = format!("{error:#}");
        tracing::warn!(first, last, reason, "ranges are not merged, which is tried again later");
        self.unmerged.insert((first, last), Failure::new("failed", reason));
    }

    /// The first merge that failed.
    pub fn first_unmerged(&self) -> Option<(u64, u64, &str)> {
        let (&(first, last), failure) = self.unmerged.first_key_value()?;
        Some((first, last, &failure.reason))
    }

    /// Starts to rank the holders of ranges.
    pub fn start_ranking(&mut self, ranges: Vec<Range>) {
        let made = self.builder.on_thread(move |builder| {
            let _phase = phase("ranking");
            Ranking::make(&builder.fetcher.store, &ranges, RankLimits::default(), &builder.stop)
        });
        self.ranking = Some(AbortOnDrop::spawn(async move { Ok(made.await??) }));
    }

    /// A ranking that has ended.
    pub async fn next_ranking(&mut self) -> Option<Result<Ranking, FetchError>> {
        let ranking = self.ranking.take_if(|ranking| ranking.is_finished())?;
        Some(ranking.await.unwrap_or_else(|error| Err(error.into())))
    }

    /// Notes that a ranking failed, to be tried again later.
    pub fn note_unranked(&mut self) {
        self.ranking_retry_at = Some(Instant::now() + RETRY);
    }

    /// Whether a ranking may be started.
    pub fn may_rank(&self) -> bool {
        self.ranking.is_none() && self.ranking_retry_at.is_none_or(|at| Instant::now() >= at)
    }

    /// Whether a ranking is being made.
    pub fn is_ranking(&self) -> bool {
        self.ranking.is_some()
    }

    /// Whether ranges are being built or merged.
    pub fn is_building(&self) -> bool {
        !self.under_way.is_empty() || self.merging.is_some()
    }

    /// Whether it is time to delete what nobody reads any more. Not while something under way reads
    /// ranges.
    pub fn is_collection_due(&mut self) -> bool {
        const EVERY: Duration = Duration::from_secs(60);
        if self.merging.is_some()
            || self.is_ranking()
            || self.under_way.iter().any(|under_way| under_way.job.adds_to.is_some())
            || self.collected_at.is_some_and(|at| at.elapsed() < EVERY)
        {
            return false;
        }
        self.collected_at = Some(Instant::now());
        true
    }

    /// Waits until there is something to do about what is under way.
    pub async fn wait(&self, in_order: bool) {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let count_drained =
            || self.under_way.iter().filter(|under_way| under_way.is_drained()).count();
        let drained = count_drained();
        let merged = || self.merging.as_ref().is_some_and(|merging| merging.task.is_finished());
        let ranked = || self.ranking.as_ref().is_some_and(AbortOnDrop::is_finished);
        while self.ended(in_order).is_none() && !merged() && !ranked() && count_drained() == drained
        {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends: ranges being built are dropped, and a merge is waited for a little while.
    pub async fn close(&mut self) -> Option<Merged> {
        /// How long a merge is waited for; it is dropped then.
        const DRAIN: Duration = Duration::from_secs(1);
        self.builder.stop.set();
        self.under_way.clear();
        let Merging { blocks, task } = self.merging.take()?;
        // Its thread runs at idle priority, and may not even come to see that it is to stop.
        let merged =
            tokio::time::timeout(DRAIN, task).await.unwrap_or(Ok(Err(FetchError::Stopped)));
        Some((blocks, merged.unwrap_or_else(|error| Err(error.into()))))
    }
}
