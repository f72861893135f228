//! Builds ranges, on threads of its own at idle priority.

use super::error::FetchError;
use super::fetch::Fetcher;
use super::limits::lower_priority;
use super::meter::Meter;
use super::pressure::Gate;
use super::rebuild::Rebuild;
use crate::freezer::Places;
use crate::log::phase;
use crate::plan::Piece;
use crate::rows::Selection;
use crate::stop::Stop;
use crate::store::{BlockLink, Identity, Merge, Range, RangeWriter};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::thread;
use tokio::sync::oneshot;

/// A range to build.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Its blocks and their source.
    pub piece: Piece,
    /// The tables to write.
    pub tables: Selection,
    /// Its blocks that are in the tail, ascending: their state is stored with them.
    pub links: Vec<BlockLink>,
    /// The existing range that gets a new generation with more tables.
    pub adds_to: Option<Range>,
    /// The damaged range that it replaces.
    pub rebuilds: Option<Rebuild>,
    /// The range that it replaces to request its state again.
    pub replaces: Option<Range>,
}

/// Builds ranges. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Builder {
    /// Fetches ranges from the node.
    pub fetcher: Fetcher,
    pub identity: Identity,
    /// The freezer and era files, once found.
    pub history: Places,
    /// Whether the node has a head, so that its chain is known.
    pub anchored: bool,
    /// Whether to run at idle priority and pause while the node is under pressure: nobody is
    /// waiting for the result.
    pub pauses: bool,
    /// Closed while the node is under pressure.
    pub gate: Arc<Gate>,
    pub meter: Arc<Meter>,
    pub stop: Stop,
}

impl Builder {
    /// Merges ranges, and commits the result.
    pub(super) async fn merge(self, merge: Merge) -> Result<Range, FetchError> {
        self.on_thread(move |builder| {
            let _phase = phase("merge");
            Ok(merge.run(&builder.fetcher.store, &builder.stop)?)
        })
        .await?
    }

    /// The tables that still have to be written.
    pub(super) fn tables(&self) -> Selection {
        self.fetcher.options().tables
    }

    /// Opens the files of a job's range, for the tables that still have to be written.
    pub(super) fn writer(&self, job: &Job) -> Result<RangeWriter<'_>> {
        let (store, tables) = (&self.fetcher.store, self.tables());
        match &job.adds_to {
            Some(range) => RangeWriter::create_adding(store, range, tables),
            None => {
                RangeWriter::create(store, self.identity, job.piece.first, job.piece.last, tables)
            }
        }
    }

    /// Runs blocking work on a thread of its own, at low priority.
    pub(super) fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Builder) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, FetchError>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        let builder = self.clone();
        let spawned = thread::Builder::new().name("build".to_owned()).spawn(move || {
            lower_priority(builder.pauses);
            let result = work(&builder);
            // The receiver is gone only if the result is no longer needed.
            let _ = sender.send(result);
        });
        async move {
            spawned.context("failed to start a thread")?;
            receiver
                .await
                .map_err(|_| FetchError::Other(anyhow::anyhow!("a worker thread panicked")))
        }
    }
}
