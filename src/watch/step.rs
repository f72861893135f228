//! One step: poll the node, follow its head, build finalized blocks, publish.

use super::error::FetchError;
use super::session::Session;
use super::space::is_disk_full;
use super::wait::Doubt;
use crate::error::Refused;
use crate::geth::Head;
use anyhow::Result;
use std::error::Error;

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was done, and there may be more.
    Advanced,
    /// There is nothing to do now.
    Idle,
    /// The task has an end, and it is reached.
    Done,
}

impl Session {
    /// Does the next thing, and commits it.
    pub(super) async fn step(&mut self) -> Result<Step, FetchError> {
        self.finish_jobs().await?;
        self.publication.refresh();
        let head = self.look().await?;
        self.publication.dirty |= self.tail.refetch_lost().await?;
        let followed = self.follow(head).await;
        let advanced = match &followed {
            Ok(advanced) => *advanced,
            // A problem at the head is logged below, and history is built all the same.
            Err(FetchError::Bad { .. } | FetchError::Doubt(_)) => false,
            Err(_) => return followed.map(|_| Step::Idle),
        };
        let is_building = self.build().await?;
        let is_done = !advanced && !is_building;
        self.tail.check_links(self.sealed.top())?;
        self.publish(is_done)?;
        followed?;
        self.unhealthy = None;
        self.log_building();
        self.beat()?;
        if is_done && self.settings.ends() && self.is_complete(head) {
            self.warn_of_nothing();
            return Ok(Step::Done);
        }
        Ok(if advanced { Step::Advanced } else { Step::Idle })
    }

    /// Polls the node: its head, its finalized block, its freezer, and which state it serves.
    async fn look(&mut self) -> Result<Head, FetchError> {
        let was_anchored = self.node.is_anchored();
        let head = self.look_at_head().await?;
        let (root, ranges) = (self.store.root(), &self.sealed.ranges);
        if self.node.is_anchored() && !was_anchored {
            self.node.check_sealed(ranges, root).await?;
            self.publication.dirty = true;
        }
        self.jobs.builder.history.clone_from(self.node.look_at_freezer().await?);
        self.jobs.builder.anchored = self.node.is_anchored();
        self.publication.dirty |= self.node.look_for_state(ranges, root).await?;
        Ok(head)
    }

    /// Polls the node's head, and if it has moved, the finalized block.
    pub(super) async fn look_at_head(&mut self) -> Result<Head, FetchError> {
        let tip = self.tip();
        let head = self.node.look_at_head(&self.jobs.builder.gate).await?;
        if self.node.head != Some(head) {
            self.node.look_for_finalized(head, tip, &self.store).await?;
            if self.node.head.is_some() {
                self.tail.fetcher.pace.moved();
            }
        }
        self.node.head = Some(head);
        Ok(head)
    }

    /// Whether nothing is left to read.
    fn is_complete(&self, head: Head) -> bool {
        let known = self.known();
        known.pieces().next().is_none()
            && known.rebuilds().next().is_none()
            && known.additions().next().is_none()
            && (!self.settings.follows() || known.tail_next() > head.number)
    }

    /// Warns if a backfill ended without a block.
    fn warn_of_nothing(&self) {
        let from = self.sealed.requested_first;
        if !self.settings.follows() && self.sealed.ranges.iter().all(|range| range.last < from) {
            let finalized =
                self.node.finalized.map_or("none yet".to_owned(), |number| number.to_string());
            tracing::warn!(
                from,
                finalized,
                "nothing to read: no 100 aligned blocks from there on are finalized"
            );
        }
    }

    /// After a failed step: logs what is waited for before the step is retried. Nothing committed
    /// is lost.
    ///
    /// # Errors
    /// The error itself, if it is not one to wait out.
    pub(super) fn wait_out(
        &mut self,
        error: FetchError,
        doubt: &mut Doubt,
    ) -> Result<(), FetchError> {
        let (state, unhealthy) = match &error {
            FetchError::Away(error) => {
                self.publish_committed(false);
                let mut state = format!("waiting for geth: {error}");
                let mut cause = error.source();
                while let Some(error) = cause {
                    state += &format!(": {error}");
                    cause = error.source();
                }
                (state, error.is_other_chain().then(|| error.to_string()))
            }
            FetchError::Bad { reason, .. } | FetchError::Doubt(reason) => {
                (format!("waiting: {reason}"), Some(reason.clone()))
            }
            FetchError::Other(error) if is_disk_full(error) => {
                (format!("waiting for space: {error:#}"), None)
            }
            _ => return Err(error),
        };
        if self.settings.ends()
            && let FetchError::Away(error) = &error
            && error.is_other_chain()
        {
            let hint = "give the socket of the node that the data came from, or each chain a data \
                directory of its own";
            return Err(Refused::new(error.to_string(), hint).into());
        }
        self.unhealthy = unhealthy.or(self.unhealthy.take());
        // Does not alternate with what `has_room` logs.
        let waits_for_space = |state: &str| state.starts_with("waiting for space");
        if !(waits_for_space(&state) && waits_for_space(self.reporter.state())) {
            self.reporter.log_state(state);
        }
        let is_end = match error {
            FetchError::Bad { .. } => true,
            FetchError::Doubt(_) => doubt.lasts(),
            _ => false,
        };
        if self.settings.ends() && is_end {
            return Err(error);
        }
        if matches!(error, FetchError::Other(_)) && !self.jobs.is_building() {
            // Unfinished files take space.
            self.store.clear_temporary()?;
        }
        // There may be no space for this either.
        Ok(self.beat().or_else(|error| if is_disk_full(&error) { Ok(()) } else { Err(error) })?)
    }

    /// Ends: drops ranges being built, finishes or drops a merge, and publishes.
    pub(super) async fn close(&mut self) -> Result<()> {
        match self.jobs.close().await {
            Some((_, Ok(range))) => {
                self.sealed.add(range);
                self.publication.dirty = true;
            }
            Some((blocks, Err(FetchError::Other(error)))) => {
                self.jobs.note_unmerged(blocks, &error)
            }
            _ => {}
        }
        if !self.settings.follows() {
            self.jobs.rates.log_total(&self.jobs.builder.meter);
        }
        self.reporter.log_state("stopped".to_owned());
        self.publish(true)?;
        self.beat()
    }
}
