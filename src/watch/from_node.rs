//! Builds a range from the node, over its socket, and from the tail where it has the blocks.

use super::abort::AbortOnDrop;
use super::builder::{Builder, Job};
use super::error::FetchError;
use super::fetch::{Ahead, Ask, FetchBatch};
use super::state::Near;
use crate::geth::Tag;
use crate::log::phase;
use crate::plan::Piece;
use crate::store::{BlockLink, Finished};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// Blocks per fetch batch.
const BATCH_BLOCKS: u64 = 16;

/// Batches in flight: enough to keep every core busy while replies travel.
const BATCHES_MAX: usize = 8;

impl Builder {
    /// Builds a range from the node.
    pub(super) async fn build_from_node(
        &self,
        job: Job,
        drained: &AtomicBool,
    ) -> Result<Finished, FetchError> {
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
            builder.stop.check()?;
            if next <= piece.last {
                return Err(FetchError::Stopped);
            }
            Ok(range.finish()?)
        });
        let pumped = self.pump(piece, links, &sender).await;
        // After a failure no other piece goes ahead: this one is retried first.
        drained.store(pumped.is_ok(), Ordering::Relaxed);
        // Nobody else may write here before the writer has ended.
        drop(sender);
        let written = writer.await?;
        pumped?;
        written
    }

    /// Fetches the piece's batches concurrently and sends them in order. Blocks in the tail are
    /// read from there.
    async fn pump(
        &self,
        piece: Piece,
        mut links: Vec<BlockLink>,
        sender: &mpsc::Sender<FetchBatch>,
    ) -> Result<(), FetchError> {
        if let Some(top) = links.last() {
            // Nothing else notices if the node has advanced by many blocks.
            let node = self
                .fetcher
                .client
                .head(Tag::Number(top.number))
                .await
                .map_err(FetchError::Away)?;
            if node.hash != top.hash {
                links.clear();
            }
        }
        let frozen = self.fetcher.frozen_blocks().await?;
        let mut in_progress = VecDeque::new();
        // Blocks that the node executes again may each be large.
        let count = if self.fetcher.state.is_traced() { 1 } else { BATCH_BLOCKS };
        let mut parts = parts(piece, &links, count).into_iter();
        let mut below = None;
        let mut ahead = Ahead::up_to(BATCHES_MAX);
        loop {
            self.gate.wait().await;
            while in_progress.len() < ahead.get()
                && let Some((first, last, link)) = parts.next()
            {
                let fetcher = self.fetcher.clone();
                in_progress.push_back(AbortOnDrop::spawn(async move {
                    match link {
                        Some(link) => fetcher.of_tail(link).await,
                        None if last < frozen => fetcher.fetch(first, last, Ask::Frozen).await,
                        None => fetcher.fetch(first, last, Ask::Block(Near::Finalized)).await,
                    }
                }));
            }
            let Some(batch) = in_progress.pop_front() else { return Ok(()) };
            let batch = self.linked(below, batch.await??).await?;
            ahead.note(batch.weight());
            below = batch.links.last().copied();
            self.stop.check()?;
            if sender.send(batch).await.is_err() {
                // The writer has ended: its own error says why.
                return Ok(());
            }
        }
    }

    /// The batch, if each of its blocks links to the previous one; otherwise fetched once more on a
    /// fresh connection.
    async fn linked(
        &self,
        below: Option<BlockLink>,
        batch: FetchBatch,
    ) -> Result<FetchBatch, FetchError> {
        let Some((first, last)) = batch.links.first().zip(batch.links.last()) else {
            return Ok(batch);
        };
        let Some((number, reason)) = unlinked(below, &batch.links) else { return Ok(batch) };
        tracing::warn!(block = number, reason, "block failed its check, fetching it again");
        self.fetcher.client.drop_connections();
        let ask = Ask::Block(Near::Finalized);
        let batch = self.fetcher.fetch(first.number, last.number, ask).await?;
        match unlinked(below, &batch.links) {
            None => Ok(batch),
            Some((number, reason)) => Err(self.fetcher.quarantine(number, reason).await?),
        }
    }
}

/// Splits a piece, ascending: each block of the tail by itself, the others in batches of `count`.
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

/// The first block that does not link to the previous one, and what is wrong.
fn unlinked(below: Option<BlockLink>, links: &[BlockLink]) -> Option<(u64, String)> {
    let parents = below.iter().chain(links);
    let children = if below.is_some() { links } else { &links[1..] };
    parents.zip(children).find(|(parent, child)| child.parent_hash != parent.hash).map(
        |(parent, child)| {
            let BlockLink { number, parent_hash, .. } = child;
            (
                *number,
                format!(
                    "block {number}: parent hash: expected {}, found {parent_hash}",
                    parent.hash
                ),
            )
        },
    )
}
