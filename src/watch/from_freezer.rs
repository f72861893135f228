//! Builds a range from geth's freezer or from era files: one worker, from the files to the rows.
//!
//! The worker reads a run of blocks and has it proved on all cores while it writes the previous
//! run; other workers do the same with other ranges, so no core idles. A worker's memory is bounded
//! by two runs and the open row groups, whatever the blocks are.

use super::builder::{Builder, Job};
use super::error::FetchError;
use super::fetch::link;
use crate::clock::thread_time;
use crate::decode::{Block, Depth};
use crate::freezer::{FreezerRun, History, Stored};
use crate::geth::Tag;
use crate::log::phase;
use crate::prove::{Expected, Proved};
use crate::recover;
use crate::rows::Batch;
use crate::store::{BlockLink, Finished, RangeWriter};
use alloy_primitives::B256;
use anyhow::Result;
use rayon::prelude::*;
use std::sync::mpsc::{self, Receiver};

/// Blocks whose senders are recovered together: enough of them to fill chunks even where each has
/// few transactions, and few enough that a run keeps every core busy.
const GROUP_BLOCKS: usize = 16;

/// The blocks of a run, in order, each proved or failed.
struct ProvedRun {
    blocks: Vec<Result<Proved, FetchError>>,
    bytes: u64,
}

impl Builder {
    /// Builds a range from geth's freezer. The node confirms its last block, and all blocks below
    /// link to that.
    pub(super) async fn build_from_freezer(&self, job: Job) -> Result<Finished, FetchError> {
        let anchor = if self.anchored { Some(self.anchor(job.piece.last).await?) } else { None };
        self.on_thread(move |builder| {
            let _phase = phase("range");
            builder.build_from_files(&job, anchor)
        })
        .await?
    }

    async fn anchor(&self, number: u64) -> Result<B256, FetchError> {
        match self.fetcher.client.head(Tag::Number(number)).await {
            Ok(head) => Ok(head.hash),
            Err(error) if error.is_passing() => Err(FetchError::Away(error)),
            Err(error) => Err(FetchError::Freezer(error.to_string())),
        }
    }

    fn build_from_files(&self, job: &Job, anchor: Option<B256>) -> Result<Finished, FetchError> {
        let mut history = History::open(&self.history).map_err(freezer_failed)?;
        let mut range = self.writer(job)?;
        let mut below: Option<BlockLink> = None;
        let mut next = job.piece.first;
        let mut proving = None;
        loop {
            let run = (next <= job.piece.last)
                .then(|| history.read(next, job.piece.last))
                .transpose()
                .map_err(freezer_failed)?;
            next += run.as_ref().map_or(0, |run| run.blocks.len() as u64);
            let ahead = run.map(|run| self.prove_aside(run));
            match std::mem::replace(&mut proving, ahead) {
                Some(proved) => self.write(
                    proved.recv().map_err(|_| FetchError::Stopped)?,
                    &mut below,
                    &mut range,
                )?,
                None if proving.is_none() => break,
                None => {}
            }
        }
        if let Some(anchor) = anchor.filter(|anchor| below.is_none_or(|top| top.hash != *anchor)) {
            return Err(FetchError::Freezer(format!(
                "block {} is {anchor} on the node",
                job.piece.last
            )));
        }
        Ok(range.finish()?)
    }

    /// Decodes and proves the blocks of a run in the background, some at a time, on any free core.
    fn prove_aside(&self, run: FreezerRun) -> Receiver<ProvedRun> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let builder = self.clone();
        self.fetcher.pool.spawn(move || {
            let bytes = run.bytes;
            let groups = run.blocks.into_par_iter().chunks(GROUP_BLOCKS);
            let blocks = groups.flat_map_iter(|group| builder.prove_group(group)).collect();
            // The receiver is gone only if the range was given up.
            let _ = sender.send(ProvedRun { blocks, bytes });
        });
        receiver
    }

    /// Links the blocks of a run to those below, and writes their rows.
    fn write(
        &self,
        run: ProvedRun,
        below: &mut Option<BlockLink>,
        range: &mut RangeWriter,
    ) -> Result<(), FetchError> {
        let blocks = run.blocks.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut batch = Batch::new(self.fetcher.options());
        for block in &blocks {
            let (number, parent_hash) = (block.header.number, block.header.parent_hash);
            if let Some(below) = below.filter(|below| below.hash != parent_hash) {
                let reason = format!(
                    "block {number}: parent hash: expected {}, found {parent_hash}",
                    below.hash
                );
                return Err(FetchError::Freezer(reason));
            }
            *below = Some(link(block));
            batch
                .push(block, &self.fetcher.state.of_history(block))
                .map_err(|error| FetchError::Freezer(format!("{error:#}")))?;
        }
        let links: Vec<_> = blocks.iter().map(link).collect();
        let gaps = batch.take_gaps();
        range.push(batch.parts(), &links, &gaps)?;
        self.fetcher.warn_of_unknown_types(&blocks);
        self.meter.freezer.add(links.len() as u64, run.bytes);
        Ok(())
    }

    /// Decodes some blocks, recovers their senders together, and proves each by itself.
    fn prove_group(&self, group: Vec<Stored>) -> Vec<Result<Proved, FetchError>> {
        let depth = self.fetcher.options().depth();
        let expected = |stored: &Stored| Expected {
            number: stored.number,
            hash: Some(stored.hash),
            parent_hash: None,
        };
        let expected: Vec<_> = group.iter().map(expected).collect();
        let mut blocks = Vec::with_capacity(group.len());
        for Stored { header, body, receipts, .. } in group {
            if let Err(stopped) = self.wait() {
                return vec![Err(stopped)];
            }
            blocks.push(Block::decode_stored(header, body, &receipts, depth));
        }
        if depth == Depth::Fields {
            let start = thread_time();
            recover::senders(&mut blocks);
            self.meter.recovered(thread_time().saturating_sub(start));
        }
        let proved = blocks.into_iter().zip(expected).map(|(block, expected)| {
            self.fetcher.prove(block, &expected).map_err(FetchError::Freezer)
        });
        proved.collect()
    }

    fn wait(&self) -> Result<(), FetchError> {
        self.gate.wait_on_thread(&self.stop)?;
        self.fetcher.pace.wait_between_blocks(&self.stop)?;
        Ok(())
    }
}

fn freezer_failed(error: crate::freezer::Error) -> FetchError {
    FetchError::Freezer(error.to_string())
}
