//! What builds ranges: on threads of its own, behind everything else on the machine.

use super::error::FetchError;
use super::fetch::Fetcher;
use super::limits::lower_priority;
use super::mend::Mend;
use super::meter::Meter;
use super::pressure::Gate;
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

/// A range to be built.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its blocks, and what they come from.
    pub piece: Piece,
    /// The tables that the range is to have.
    pub tables: Selection,
    /// Those of its blocks that the tail has, ascending: with them comes what the node said of
    /// their state.
    pub links: Vec<BlockLink>,
    /// The range it is to be the next generation of, with further tables.
    pub adds_to: Option<Range>,
    /// The damaged range in whose place it comes.
    pub mends: Option<Mend>,
    /// The range whose state is asked for once more, in whose place it comes.
    pub replaces: Option<Range>,
}

/// Builds ranges. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Builder {
    /// For ranges out of the node.
    pub fetcher: Fetcher,
    /// Which chain.
    pub identity: Identity,
    /// Where history lies in files, once it is found.
    pub history: Places,
    /// Whether the node can say which chain is its own.
    pub anchored: bool,
    /// Whether nobody waits for the end: it pauses while the node is under pressure, and has idle
    /// priority.
    pub pauses: bool,
    /// Closed while the node needs the machine for itself.
    pub gate: Arc<Gate>,
    /// What was read.
    pub meter: Arc<Meter>,
    /// Set when the process is to stop.
    pub stop: Stop,
}

impl Builder {
    /// Merges ranges, and commits the result.
    pub async fn merge(self, merge: Merge) -> Result<Range, FetchError> {
        self.on_thread(move |builder| {
            let _phase = phase("merge");
            Ok(merge.run(&builder.fetcher.store, &builder.stop)?)
        })
        .await?
    }

    /// The tables that are left to be made.
    pub fn tables(&self) -> Selection {
        self.fetcher.options().tables
    }

    /// Starts the files of a job's range, for the tables that are left to be made.
    pub fn writer(&self, job: &Job) -> Result<RangeWriter<'_>> {
        let (store, tables) = (&self.fetcher.store, self.tables());
        match &job.adds_to {
            Some(range) => RangeWriter::create_adding(store, range, tables),
            None => {
                RangeWriter::create(store, self.identity, job.piece.first, job.piece.last, tables)
            }
        }
    }

    /// Runs blocking work on a thread of its own, at low priority.
    pub fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Builder) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, FetchError>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        let builder = self.clone();
        let spawned = thread::Builder::new().name("build".to_owned()).spawn(move || {
            lower_priority(builder.pauses);
            let result = work(&builder);
            // The receiver is gone only when the result is not wanted any more.
            let _ = sender.send(result);
        });
        async move {
            spawned.context("failed to start a thread")?;
            receiver
                .await
                .map_err(|_| FetchError::Other(anyhow::anyhow!("the building thread died")))
        }
    }
}
