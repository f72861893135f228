//! What is published, and what is to be.

use super::sealed::GRACE;
use crate::answers::{Labels, Ranking};
use crate::events::Events;
use crate::publish::{Contents, Directory, Publisher};
use crate::rows::Selection;
use crate::rows::coverage::Interval;
use crate::rows::reorgs::Reorg;
use crate::store::{BlockLink, Identity, RANGE_MIN, Range, Store, chunk};
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is published, and what is to be.
#[derive(Debug)]
pub(super) struct Publication {
    publisher: Publisher,
    labels: Labels,
    events: Events,
    /// The largest holders in the sealed ranges.
    pub ranking: Option<Ranking>,
    /// Whether there is something to publish, and when it was last done.
    pub dirty: bool,
    published_at: Option<Instant>,
    /// Why publishing failed, and when it was last tried.
    failed: Option<(String, Instant)>,
    /// Published chunks of the tail, and those no longer published with the time that was first
    /// seen.
    chunks: Vec<PathBuf>,
    chunks_left: BTreeMap<PathBuf, Instant>,
}

/// The published part of the chain.
#[derive(Debug)]
pub(super) struct Published<'a> {
    pub identity: Identity,
    /// The tables to make.
    pub tables: Selection,
    pub ranges: &'a [Range],
    pub tail: &'a [BlockLink],
    pub coverage: Vec<Interval>,
    pub reorgs: Vec<Reorg>,
}

impl Publication {
    pub(super) fn new(
        publisher: Publisher,
        labels: Labels,
        events: Events,
        ranking: Option<Ranking>,
    ) -> Self {
        Self {
            publisher,
            labels,
            events,
            ranking,
            dirty: true,
            published_at: None,
            failed: None,
            chunks: Vec::new(),
            chunks_left: BTreeMap::new(),
        }
    }

    /// Reads the operator's files again if they changed.
    pub(super) fn refresh(&mut self) {
        self.dirty |= self.labels.refresh();
        self.dirty |= self.events.refresh();
    }

    /// Whether there is something to publish and enough time has passed.
    pub(super) fn is_due(&self, every: Duration) -> bool {
        self.dirty && self.published_at.is_none_or(|at| at.elapsed() >= every)
    }

    pub(super) fn publish(&mut self, store: &Store, published: &Published) -> Result<()> {
        let Published { identity, tables, ranges, tail, ref coverage, ref reorgs } = *published;
        let split = chunk::split(store, identity, tail, tables)?;
        let sealed = ranges.iter().map(|range| Directory {
            path: range.path.clone(),
            tables: range.tables(),
            older: range.manifest.older(),
            first: range.first,
            last: range.last,
            last_timestamp: range.manifest.last_timestamp,
            fingerprint: Some(range.manifest.fingerprint()),
        });
        let (chunked, tail) = tail.split_at(split.blocks);
        let chunks =
            split.chunks.iter().zip(chunked.chunks(RANGE_MIN as usize)).map(|(path, links)| {
                Directory {
                    path: path.clone(),
                    tables,
                    older: Selection::of_known([]),
                    first: links[0].number,
                    last: links[links.len() - 1].number,
                    last_timestamp: links[links.len() - 1].timestamp,
                    fingerprint: None,
                }
            });
        let ranges: Vec<_> = sealed.chain(chunks).collect();
        let (labels, events) = (&self.labels, &self.events);
        let ranking = self.ranking.as_ref();
        let contents =
            Contents { ranges: &ranges, tail, tables, coverage, reorgs, labels, events, ranking };
        self.publisher.publish(store, &contents)?;
        self.chunks = split.chunks;
        self.dirty = false;
        self.published_at = Some(Instant::now());
        Ok(())
    }

    /// Drops a damaged ranking.
    pub(super) fn check_ranking(&mut self, store: &Store) -> Result<()> {
        if let Some(ranking) = &self.ranking
            && !ranking.is_sound(store)?
        {
            self.ranking = None;
        }
        Ok(())
    }

    /// Records why publishing failed, or that it succeeded.
    pub(super) fn note_failure(&mut self, reason: Option<String>) {
        self.failed = reason.map(|reason| (reason, Instant::now()));
    }

    /// Whether it failed recently.
    pub(super) fn is_resting(&self) -> bool {
        const RETRY: Duration = Duration::from_secs(10);
        self.failed.as_ref().is_some_and(|(_, at)| at.elapsed() < RETRY)
    }

    /// Why publishing failed.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.as_ref().map(|(reason, _)| &reason[..])
    }

    /// Deletes rankings and tail chunks that are no longer published, once no reader uses them.
    pub(super) fn collect(&mut self, store: &Store) -> Result<()> {
        if let Some(ranking) = &self.ranking {
            ranking.collect_others(store, GRACE)?;
        }
        let left = chunk::unpublished(store, &self.chunks)?;
        self.chunks_left.retain(|path, _| left.contains(path));
        for path in left {
            if self.chunks_left.entry(path.clone()).or_insert_with(Instant::now).elapsed() > GRACE {
                store.delete_directory(&path)?;
            }
        }
        Ok(())
    }
}
