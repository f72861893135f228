//! Building ranges, each on a worker of its own: from geth's freezer, from the node's socket, from the tail; and merging.
//!
//! A worker ends with a range that is whole and durable but still aside; [`super::follow`] puts it in its place.

use super::fetch::{AbortOnDrop, Ahead, FetchBatch, FetchError, Fetcher, Near};
use super::mend::{Mend, covers_as_much};
use super::meter::Meter;
use super::phase;
use super::pressure::Gate;
use crate::freezer::Places;
use crate::geth::Tag;
use crate::plan::{Piece, Source};
use crate::rows::Selection;
use crate::store::{BlockLink, Damaged, Finished, Identity, Merge, Range, RangeWriter, Store, tail};
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tokio::sync::{mpsc, oneshot};

/// Blocks that are fetched and proved together.
const BATCH_BLOCKS: u64 = 8;

/// Batches under way: enough to keep every core busy while replies travel.
const BATCHES_MAX: usize = 8;

/// The nice value while a person waits: on a core shared with one busy thread of normal priority, a tenth of it.
const NICE: i32 = 10;

/// A range to be built.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its blocks, and what they come from.
    pub piece: Piece,
    /// The tables that the range is to have.
    pub tables: Selection,
    /// Those of its blocks that the tail has, ascending: with them comes what the node said of their state.
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
    /// Whether it pauses while the node is under pressure.
    pub pauses: bool,
    /// Closed while the node needs the machine for itself.
    pub gate: Arc<Gate>,
    /// What was read.
    pub meter: Arc<Meter>,
    /// Set when the process is to stop.
    pub stop: Arc<AtomicBool>,
}

impl Builder {
    /// Builds a range, aside. `drained` is set when the node is not needed any more.
    pub async fn build(mut self, mut job: Job, drained: Arc<AtomicBool>) -> Result<Finished, FetchError> {
        if let Some(mend) = &job.mends {
            job.adds_to = self.sound_state(mend).await?;
        }
        let held = job.adds_to.as_ref().map_or(Selection::of_known([]), Range::tables);
        self.fetcher.options.tables = job.tables.without(held);
        let finished = match job.piece.source {
            Source::Freezer => self.build_from_freezer(job.clone()).await,
            Source::Node => self.fetch(job.clone(), &drained).await,
            Source::Tail => {
                let links = job.links.clone();
                let sealed = self.on_thread(move |builder| {
                    let _phase = phase("range");
                    builder.seal(&links)
                });
                match sealed.await? {
                    // What the tail lost the node has.
                    Err(FetchError::Other(error)) if error.is::<Damaged>() => self.fetch(job.clone(), &drained).await,
                    sealed => sealed,
                }
            }
        }?;
        if let Some(range) = &job.replaces {
            covers_as_much(finished.manifest(), &range.manifest)?;
        }
        if let (Some(range), None) = (&job.adds_to, &job.mends) {
            let (held, added) = (&range.manifest, finished.manifest());
            if (held.first_parent_hash, held.last_hash) != (added.first_parent_hash, added.last_hash) {
                let what = format!("the node's blocks {} to {} are not those that are sealed", range.first, range.last);
                return Err(FetchError::Other(anyhow::anyhow!(what)));
            }
        }
        Ok(finished)
    }

    /// Merges ranges, and commits the result.
    pub async fn merge(self, merge: Merge) -> Result<Range, FetchError> {
        self.on_thread(move |builder| {
            let _phase = phase("merge");
            let stopped = || builder.stopped();
            merge.run(&builder.fetcher.store, &stopped)?.ok_or(FetchError::Stopped)
        })
        .await?
    }

    /// Starts the files of a job's range, for the tables that are left to be made.
    pub fn writer(&self, job: &Job) -> Result<RangeWriter<'_>> {
        let store: &Store = &self.fetcher.store;
        let tables = self.fetcher.options.tables;
        match &job.adds_to {
            Some(range) => RangeWriter::create_adding(store, range, tables),
            None => RangeWriter::create(store, self.identity, job.piece.first, job.piece.last, tables),
        }
    }

    /// Builds a range out of the node.
    async fn fetch(&self, job: Job, drained: &AtomicBool) -> Result<Finished, FetchError> {
        let (piece, links) = (job.piece, job.links.clone());
        let (sender, mut receiver) = mpsc::channel::<FetchBatch>(BATCHES_MAX / 2);
        let writer = self.on_thread(move |builder| {
            let _phase = phase("range");
            let mut range = builder.writer(&job)?;
            let mut next = piece.first;
            while let Some(batch) = receiver.blocking_recv() {
                let count = batch.links.len() as u64;
                range.push(batch.parts, &batch.links, &batch.gaps)?;
                next += count;
                builder.meter.node.add(count, batch.bytes);
            }
            if next <= piece.last || builder.stopped() {
                return Err(FetchError::Stopped);
            }
            Ok(range.finish()?)
        });
        let pumped = self.pump(piece, links, &sender).await;
        // After a failure no other piece goes ahead: this one is to be taken again first.
        drained.store(pumped.is_ok(), Ordering::Relaxed);
        // Only when the writer has ended may anybody else write here.
        drop(sender);
        let written = writer.await?;
        pumped?;
        written
    }

    /// Fetches the piece's batches side by side and hands them on in order. What the tail has of it is taken from there.
    async fn pump(
        &self,
        piece: Piece,
        mut links: Vec<BlockLink>,
        sender: &mpsc::Sender<FetchBatch>,
    ) -> Result<(), FetchError> {
        if let Some(top) = links.last() {
            // Nothing else says so where the node has gone on by many blocks.
            let node = self.fetcher.client.head(Tag::Number(top.number)).await.map_err(FetchError::Away)?;
            if node.hash != top.hash {
                links.clear();
            }
        }
        let mut under_way = VecDeque::new();
        // What the node executes again may be large for each block.
        let count = if self.fetcher.is_traced() { 1 } else { BATCH_BLOCKS };
        let mut parts = parts(piece, &links, count).into_iter();
        let mut below = None;
        let mut ahead = Ahead::up_to(BATCHES_MAX);
        loop {
            self.gate.wait().await;
            while under_way.len() < ahead.get()
                && let Some((first, last, link)) = parts.next()
            {
                let fetcher = self.fetcher.clone();
                under_way.push_back(AbortOnDrop(tokio::spawn(async move {
                    match link {
                        Some(link) => fetcher.of_tail(link).await,
                        None => fetcher.fetch(first, last, Near::Finalized).await,
                    }
                })));
            }
            let Some(batch) = under_way.pop_front() else { return Ok(()) };
            let batch = self.linked(below, batch.await??).await?;
            ahead.note(batch.weight());
            below = batch.links.last().copied();
            if self.stopped() {
                return Err(FetchError::Stopped);
            }
            if sender.send(batch).await.is_err() {
                // The writer has ended: its own error says why.
                return Ok(());
            }
        }
    }

    /// The batch, where each of its blocks links to the one before; if not, fetched once more on a fresh connection.
    async fn linked(&self, below: Option<BlockLink>, batch: FetchBatch) -> Result<FetchBatch, FetchError> {
        let Some((first, last)) = batch.links.first().zip(batch.links.last()) else { return Ok(batch) };
        let Some((number, reason)) = unlinked(below, &batch.links) else { return Ok(batch) };
        tracing::warn!(block = number, reason, "block failed its check, fetched once more");
        self.fetcher.client.drop_connections();
        let batch = self.fetcher.fetch(first.number, last.number, Near::Finalized).await?;
        match unlinked(below, &batch.links) {
            None => Ok(batch),
            Some((number, reason)) => Err(self.fetcher.quarantine(number, reason).await?),
        }
    }

    fn seal(&self, links: &[BlockLink]) -> Result<Finished, FetchError> {
        let (first, last) = links.first().zip(links.last()).context("nothing to seal")?;
        let store: &Store = &self.fetcher.store;
        let tables = self.fetcher.options.tables;
        let mut range = RangeWriter::create(store, self.identity, first.number, last.number, tables)?;
        for link in links {
            if self.stopped() {
                return Err(FetchError::Stopped);
            }
            let block = tail::read(store.root(), link.number, link.hash)?;
            range.push_tail(block)?;
        }
        Ok(range.finish()?)
    }

    /// Whether the process is to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
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
            receiver.await.map_err(|_| FetchError::Other(anyhow::anyhow!("the building thread died")))
        }
    }
}

/// A piece in parts, ascending: each block that the tail has by itself, of the others so many together.
fn parts(piece: Piece, links: &[BlockLink], count: u64) -> Vec<(u64, u64, Option<BlockLink>)> {
    let mut parts = Vec::new();
    let mut next = piece.first;
    let ends = links.iter().map(|link| (link.number, Some(*link))).chain([(piece.last + 1, None)]);
    for (end, link) in ends {
        let firsts = (next..end).step_by(count as usize);
        parts.extend(firsts.map(|first| (first, (first + count - 1).min(end - 1), None)));
        parts.extend(link.map(|link| (end, end, Some(link))));
        next = end + 1;
    }
    parts
}

/// The first block that does not link to the one before it, and what is wrong.
fn unlinked(below: Option<BlockLink>, links: &[BlockLink]) -> Option<(u64, String)> {
    let parents = below.iter().chain(links);
    let children = if below.is_some() { links } else { &links[1..] };
    parents.zip(children).find(|(parent, child)| child.parent_hash != parent.hash).map(|(parent, child)| {
        let BlockLink { number, parent_hash, .. } = child;
        (*number, format!("block {number}: parent hash: expected {}, found {parent_hash}", parent.hash))
    })
}

/// Lowers the calling thread's priority for CPU and disk: to `idle`, so that the node and everything else come first, or, where a
/// person waits for the end, just below others: at idle priority a busy machine would never let it finish. How much either costs
/// a node that imports blocks `tests/bench/beside.py` measures. Where the system refuses, the work is done all the same.
pub fn lower_priority(idle: bool) {
    // The values of `ioprio_set(2)`: the idle class, or the lowest level of the best-effort class, which is the normal one.
    let disk = if idle { 3 << 13 } else { 2 << 13 | 7 };
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: plain system calls on the calling thread, with a pointer to a live value.
    unsafe {
        if idle {
            libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter);
        } else {
            // Never up, where the whole process has less.
            libc::setpriority(libc::PRIO_PROCESS, 0, libc::getpriority(libc::PRIO_PROCESS, 0).max(NICE));
        }
        // ioprio_set(IOPRIO_WHO_PROCESS, this thread, …).
        libc::syscall(libc::SYS_ioprio_set, 1, 0, disk);
    }
}
