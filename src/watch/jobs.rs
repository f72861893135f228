//! Background work: ranges being built, a merge, a ranking of holders.

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

/// Background work.
#[derive(Debug)]
pub(super) struct Jobs {
    pub builder: Builder,
    /// Ranges being built, in planned order.
    in_progress: Vec<InProgress>,
    merging: Option<Merging>,
    /// Failed merges, by first and last block.
    unmerged: BTreeMap<(u64, u64), Failure>,
    ranking: Option<AbortOnDrop<Result<Ranking, FetchError>>>,
    /// When to retry a failed ranking.
    ranking_retry_at: Option<Instant>,
    /// First blocks of pieces that the freezer or an era file failed to provide, and why: they are
    /// fetched from the node.
    freezer_failures: BTreeMap<u64, String>,
    pub rates: Rates,
    pub estimate: Estimate,
    /// When deletable files were last collected.
    collected_at: Option<Instant>,
}

/// A range being built.
#[derive(Debug)]
struct InProgress {
    job: Job,
    task: AbortOnDrop<Result<Finished, FetchError>>,
    /// Set when it no longer needs the node and is only being written.
    drained: Arc<AtomicBool>,
}

impl InProgress {
    fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }
}

/// A merge in progress.
#[derive(Debug)]
struct Merging {
    blocks: (u64, u64),
    task: AbortOnDrop<Result<Range, FetchError>>,
}

/// A finished merge: first and last block, and its result.
type Merged = ((u64, u64), Result<Range, FetchError>);

impl Jobs {
    pub(super) fn new(builder: Builder, ranges: &[Range]) -> Self {
        Self {
            builder,
            in_progress: Vec::new(),
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

    /// Starts building a range, after those in progress.
    pub(super) fn start(&mut self, job: Job) {
        self.start_at(self.in_progress.len(), job);
    }

    fn start_at(&mut self, index: usize, job: Job) {
        let drained = Arc::new(AtomicBool::new(false));
        let task = AbortOnDrop::spawn(self.builder.clone().build(job.clone(), drained.clone()));
        self.in_progress.insert(index, InProgress { job, task, drained });
    }

    /// The next finished range that can be committed: the first in progress if `in_order`,
    /// otherwise any.
    pub(super) async fn next_built(
        &mut self,
        in_order: bool,
    ) -> Option<(Job, Result<Finished, FetchError>)> {
        while let Some(index) = self.ended(in_order) {
            let InProgress { job, task, .. } = self.in_progress.remove(index);
            match task.await.unwrap_or_else(|error| Err(error.into())) {
                Err(FetchError::Freezer(reason)) => {
                    let Piece { first, last, .. } = job.piece;
                    tracing::warn!(
                        first,
                        last,
                        reason,
                        "the freezer failed; these blocks are fetched from the node"
                    );
                    self.freezer_failures.insert(first, reason);
                    let piece = Piece { source: Source::Node, ..job.piece };
                    // At its old place, so that nothing overtakes it.
                    self.start_at(index, Job { piece, ..job });
                }
                built => return Some((job, built)),
            }
        }
        None
    }

    fn ended(&self, in_order: bool) -> Option<usize> {
        let candidates = if in_order { 1 } else { usize::MAX };
        self.in_progress
            .iter()
            .take(candidates)
            .position(|in_progress| in_progress.task.is_finished())
    }

    /// The pieces in progress.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.in_progress.iter().map(|in_progress| in_progress.job.piece)
    }

    /// Whether a worker is free.
    pub(super) fn has_worker(&self, workers: usize) -> bool {
        // One that is only being written needs no core.
        self.in_progress.iter().filter(|in_progress| !in_progress.is_drained()).count() < workers
    }

    /// Whether another range may be built from the node or the tail. Such a range keeps every core
    /// busy, so there is one at a time; the next may start while it is only being written.
    pub(super) fn has_node(&self) -> bool {
        let mut others =
            self.in_progress.iter().filter(|other| other.job.piece.source != Source::Freezer);
        others.clone().count() <= 1 && others.all(InProgress::is_drained)
    }

    /// The source of a piece, given what failed before: traced pieces, and those that the freezer
    /// failed to provide, come from the node.
    pub(super) fn source(&self, piece: Piece, is_traced: bool) -> Piece {
        let is_given = !is_traced && !self.freezer_failures.contains_key(&piece.first);
        match piece.source {
            Source::Freezer if !is_given => Piece { source: Source::Node, ..piece },
            _ => piece,
        }
    }

    /// Takes the freezer's failure for a piece. It is tried again next time, in case it was
    /// repaired.
    pub(super) fn take_freezer_failure(&mut self, piece: Piece) -> Option<String> {
        self.freezer_failures.remove(&piece.first)
    }

    /// The next merge that has not failed recently; none while one is in progress.
    pub(super) fn next_merge(&self, ranges: &[Range], tables: Selection) -> Option<Merge> {
        if self.merging.is_some() {
            return None;
        }
        let resting: Vec<_> =
            self.unmerged.iter().filter(|(_, failure)| failure.is_resting()).collect();
        let is_resting = |range: &&Range| {
            resting.iter().any(|((first, last), _)| *first <= range.first && range.last <= *last)
        };
        let ranges: Vec<_> = ranges.iter().filter(|range| !is_resting(range)).cloned().collect();
        next_merge(&ranges, tables)
    }

    /// Starts merging ranges.
    pub(super) fn start_merge(&mut self, merge: Merge) {
        let blocks = merge.blocks();
        self.merging =
            Some(Merging { blocks, task: AbortOnDrop::spawn(self.builder.clone().merge(merge)) });
    }

    /// A merge that has finished.
    pub(super) async fn next_merged(&mut self) -> Option<Merged> {
        let Merging { blocks, task } =
            self.merging.take_if(|merging| merging.task.is_finished())?;
        let merged = task.await.unwrap_or_else(|error| Err(error.into()));
        if merged.is_ok() {
            self.unmerged.remove(&blocks);
        }
        Some((blocks, merged))
    }

    /// Records a failed merge, to be retried later: its source ranges stay.
    pub(super) fn note_unmerged(&mut self, (first, last): (u64, u64), error: &anyhow::Error) {
        let reason = format!("{error:#}");
        tracing::warn!(first, last, reason, "merging ranges failed and will be retried");
        self.unmerged.insert((first, last), Failure::new("failed", reason));
    }

    /// The first failed merge.
    pub(super) fn first_unmerged(&self) -> Option<(u64, u64, &str)> {
        let (&(first, last), failure) = self.unmerged.first_key_value()?;
        Some((first, last, &failure.reason))
    }

    /// Starts ranking the holders of these ranges.
    pub(super) fn start_ranking(&mut self, ranges: Vec<Range>) {
        let made = self.builder.on_thread(move |builder| {
            let _phase = phase("ranking");
            Ranking::make(&builder.fetcher.store, &ranges, RankLimits::default(), &builder.stop)
        });
        self.ranking = Some(AbortOnDrop::spawn(async move { Ok(made.await??) }));
    }

    /// A ranking that has finished.
    pub(super) async fn next_ranking(&mut self) -> Option<Result<Ranking, FetchError>> {
        let ranking = self.ranking.take_if(|ranking| ranking.is_finished())?;
        Some(ranking.await.unwrap_or_else(|error| Err(error.into())))
    }

    /// Records a failed ranking, to be retried later.
    pub(super) fn note_unranked(&mut self) {
        self.ranking_retry_at = Some(Instant::now() + RETRY);
    }

    /// Whether a ranking may be started.
    pub(super) fn may_rank(&self) -> bool {
        self.ranking.is_none() && self.ranking_retry_at.is_none_or(|at| Instant::now() >= at)
    }

    /// Whether a ranking is in progress.
    pub(super) fn is_ranking(&self) -> bool {
        self.ranking.is_some()
    }

    /// Whether ranges are being built or merged.
    pub(super) fn is_building(&self) -> bool {
        !self.in_progress.is_empty() || self.merging.is_some()
    }

    /// Whether it is time to delete unused files. Never while a job reads ranges.
    pub(super) fn is_collection_due(&mut self) -> bool {
        const EVERY: Duration = Duration::from_secs(60);
        if self.merging.is_some()
            || self.is_ranking()
            || self.in_progress.iter().any(|in_progress| in_progress.job.adds_to.is_some())
            || self.collected_at.is_some_and(|at| at.elapsed() < EVERY)
        {
            return false;
        }
        self.collected_at = Some(Instant::now());
        true
    }

    /// Waits until a job needs attention.
    pub(super) async fn wait(&self, in_order: bool) {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let count_drained =
            || self.in_progress.iter().filter(|in_progress| in_progress.is_drained()).count();
        let drained = count_drained();
        let merged = || self.merging.as_ref().is_some_and(|merging| merging.task.is_finished());
        let ranked = || self.ranking.as_ref().is_some_and(AbortOnDrop::is_finished);
        while self.ended(in_order).is_none() && !merged() && !ranked() && count_drained() == drained
        {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Drops the ranges being built, and waits briefly for a merge.
    pub(super) async fn close(&mut self) -> Option<Merged> {
        /// How long to wait for a merge before it is dropped.
        const DRAIN: Duration = Duration::from_secs(1);
        self.builder.stop.set();
        self.in_progress.clear();
        let Merging { blocks, task } = self.merging.take()?;
        // Its thread has idle priority and may never be scheduled to see the stop.
        let merged =
            tokio::time::timeout(DRAIN, task).await.unwrap_or(Ok(Err(FetchError::Stopped)));
        Some((blocks, merged.unwrap_or_else(|error| Err(error.into()))))
    }
}
