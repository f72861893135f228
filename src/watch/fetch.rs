//! From the node's socket to proved rows.

use super::abort::AbortOnDrop;
use super::error::FetchError;
use super::pressure::Pace;
use super::state::{Near, StateAsker};
use super::tries::Tries;
use crate::decode::rlp::Items;
use crate::decode::{Block, Depth};
use crate::geth::{self, At, Client, FrozenBlock};
use crate::prove::{BlobSchedule, Expected, Proved, prove};
use crate::recover;
use crate::rows::{Batch, Gap, Options, Part};
use crate::store::{BlockLink, Damaged, Store, TailBlock, tail};
use alloy_primitives::{B256, Bytes};
use anyhow::Result;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// The rows of consecutive blocks.
#[derive(Debug)]
pub(super) struct FetchBatch {
    pub links: Vec<BlockLink>,
    /// One part per table.
    pub parts: Vec<Part>,
    /// Blocks that lack rows of some table, and why.
    pub gaps: Vec<Gap>,
    /// Size of the raw blocks and receipts.
    pub bytes: u64,
}

impl FetchBatch {
    /// Approximate size in memory.
    pub(super) fn weight(&self) -> u64 {
        let rows = self.parts.iter().map(|part| match part {
            Part::Rows(rows) => rows.get_array_memory_size() as u64,
            Part::Entries(_) => 0,
        });
        self.bytes + rows.sum::<u64>()
    }
}

/// Memory budget for batches in flight, going by the size of earlier ones.
const AHEAD_BYTES: u64 = 128 << 20;

/// How many blocks or batches to prefetch: one at first, doubling after each as far as the memory
/// budget allows. Huge blocks are therefore fetched one by one, and a writer that ran out of memory
/// starts over with one.
#[derive(Debug)]
pub(super) struct Ahead {
    now: usize,
    max: usize,
}

impl Ahead {
    pub(super) fn up_to(max: usize) -> Self {
        Self { now: 1, max }
    }

    pub(super) fn get(&self) -> usize {
        self.now
    }

    /// Adjusts to the weight of a batch.
    pub(super) fn note(&mut self, weight: u64) {
        let fitting = usize::try_from(AHEAD_BYTES / weight.max(1)).unwrap_or(usize::MAX);
        self.now = fitting.clamp(1, self.max.min(2 * self.now));
    }
}

/// Fetches, decodes, proves, and makes rows. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Fetcher {
    pub client: Client,
    /// Failed blocks go to its quarantine.
    pub store: Arc<Store>,
    pub schedule: Arc<BlobSchedule>,
    /// When to fetch blocks that nobody is waiting for.
    pub pace: Arc<Pace>,
    /// Requests state, and knows which tables to make.
    pub state: StateAsker,
    /// Runs the CPU-bound work.
    pub pool: Arc<rayon::ThreadPool>,
    /// Transaction types already warned about.
    pub warned: Arc<Mutex<HashSet<u8>>>,
    /// Blocks that failed their check.
    pub proof_failures: Arc<AtomicU64>,
}

/// One block from the node, not yet decoded.
enum Raw {
    /// A block's RLP and its receipts' consensus encodings.
    Block(Bytes, Vec<Bytes>),
    /// As in the node's freezer.
    Frozen(FrozenBlock),
}

impl Raw {
    /// Length in bytes.
    fn len(&self) -> usize {
        match self {
            Self::Block(block, receipts) => {
                block.len() + receipts.iter().map(|raw| raw.len()).sum::<usize>()
            }
            Self::Frozen(FrozenBlock { header, body, receipts }) => {
                header.len() + body.len() + receipts.len()
            }
        }
    }

    fn decode(self, depth: Depth) -> Result<Block> {
        match self {
            Self::Block(block, receipts) => Block::decode(block, receipts, depth),
            Self::Frozen(FrozenBlock { header, body, receipts }) => {
                Block::decode_stored(header, body, &receipts, depth)
            }
        }
    }
}

/// How to ask the node for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// As every node serves it.
    Block(Near),
    /// As stored in the node's freezer, which costs it least. Blocks that it does not return, and
    /// those that fail their check, are fetched the other way.
    Frozen,
}

impl Ask {
    /// What else the node is asked about the block.
    fn near(self) -> Near {
        match self {
            Self::Block(near) => near,
            Self::Frozen => Near::Finalized,
        }
    }
}

impl Fetcher {
    /// Which tables to make, and how to read logs.
    pub(super) fn options(&self) -> Options {
        self.state.options
    }

    /// The rows of blocks `first` to `last`, as one batch per table.
    pub(super) async fn fetch(
        &self,
        first: u64,
        last: u64,
        ask: Ask,
    ) -> Result<FetchBatch, FetchError> {
        let near = ask.near();
        let mut raws: Vec<(u64, Raw)> = Vec::new();
        let requests: Vec<_> = (first..=last)
            .map(|number| {
                let fetcher = self.clone();
                AbortOnDrop::spawn(async move { fetcher.any_raw(number, ask).await })
            })
            .collect();
        for (number, request) in (first..).zip(requests) {
            raws.push((number, request.await??));
        }
        let bytes = raws.iter().map(|(_, raw)| raw.len() as u64).sum();
        let this = self.clone();
        let (proved, failed) = self.compute(move || this.prove_all(raws)).await?;
        let mut proved = proved;
        for (number, first_reason) in failed {
            // Retry once, on a fresh connection, and not from the freezer.
            tracing::warn!(
                block = number,
                reason = first_reason,
                "block failed its check, fetching it again"
            );
            self.client.drop_connections();
            let (raw_block, raw_receipts) = self.raw(number, near).await?;
            let this = self.clone();
            let raw = Raw::Block(raw_block.clone(), raw_receipts.clone());
            let (again, failed) = self.compute(move || this.prove_all(vec![(number, raw)])).await?;
            proved.extend(again);
            if let Some((number, reason)) = failed.into_iter().next() {
                self.store.quarantine_block(number, &raw_block, &raw_receipts, &reason)?;
                return Err(FetchError::Bad { number, reason });
            }
        }
        proved.sort_unstable_by_key(|block| block.header.number);
        self.warn_of_unknown_types(&proved);
        let states = self.state.states(&proved, near).await?;
        let options = self.options();
        self.compute(move || {
            let mut batch = Batch::new(options);
            for (block, state) in proved.iter().zip(&states) {
                batch.push(block, state).map_err(|error| FetchError::Bad {
                    number: block.header.number,
                    reason: format!("{error:#}"),
                })?;
            }
            let links = proved.iter().map(link).collect();
            Ok(FetchBatch { links, gaps: batch.take_gaps(), parts: batch.parts(), bytes })
        })
        .await?
    }

    /// Blocks that failed their check so far.
    pub(super) fn proof_failures(&self) -> u64 {
        self.proof_failures.load(Ordering::Relaxed)
    }

    /// How many blocks the node's freezer has; none if the node does not say.
    pub(super) async fn frozen_blocks(&self) -> Result<u64, FetchError> {
        match Tries::STATE.of("the freezer", || self.client.frozen_blocks()).await {
            Ok(count) => Ok(count),
            Err(error) if error.is_passing() => Err(FetchError::Away(error)),
            Err(_) => Ok(0),
        }
    }

    /// A block of the tail as a batch; fetched from the node if its file is damaged or has other
    /// tables.
    pub(super) async fn of_tail(&self, link: BlockLink) -> Result<FetchBatch, FetchError> {
        let store = self.store.clone();
        let read =
            tokio::task::spawn_blocking(move || tail::read(store.root(), link.number, link.hash))
                .await?;
        match read {
            Ok(TailBlock { link, tables, batches, gaps }) if tables == self.options().tables => {
                let parts = batches.into_iter().map(Part::Rows).collect();
                return Ok(FetchBatch { links: vec![link], parts, gaps, bytes: 0 });
            }
            Ok(_) => {}
            Err(error) => match error.downcast::<Damaged>() {
                Ok(damaged) if self.store.root().join(&damaged.path).exists() => {
                    self.store.quarantine_damaged(&damaged.path, &damaged.reason)?;
                }
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            },
        }
        self.fetch(link.number, link.number, Ask::Block(Near::Head)).await
    }

    /// Moves the bytes of a proved block that is not of our chain to quarantine, and returns the
    /// error.
    pub(super) async fn quarantine(
        &self,
        number: u64,
        reason: String,
    ) -> Result<FetchError, FetchError> {
        let (raw_block, raw_receipts) = self.raw(number, Near::Head).await?;
        self.store.quarantine_block(number, &raw_block, &raw_receipts, &reason)?;
        Ok(FetchError::Bad { number, reason })
    }

    /// One block, asked for in this way if the node can answer that.
    async fn any_raw(&self, number: u64, ask: Ask) -> Result<Raw, FetchError> {
        if ask == Ask::Frozen {
            // A connection may be dropped because of another block.
            let once = || self.pace.ask_between_blocks(self.client.frozen_block(number));
            match Tries::STATE.of(number, once).await {
                Ok(block) => return Ok(Raw::Frozen(block)),
                Err(error) => tracing::debug!(block = number, %error, "not from the freezer"),
            }
        }
        let (block, receipts) = self.raw(number, ask.near()).await?;
        Ok(Raw::Block(block, receipts))
    }

    /// One block's RLP and its receipts' consensus encodings, with retries.
    async fn raw(&self, number: u64, near: Near) -> Result<(Bytes, Vec<Bytes>), FetchError> {
        match Tries::BLOCK.of(number, || self.raw_once(number, near)).await {
            Ok(raw) => Ok(raw),
            Err(geth::Error::Pruned { message, .. }) => Err(FetchError::Pruned(message)),
            Err(error) if error.is_unreachable() => Err(FetchError::Away(error)),
            Err(error) => {
                Err(FetchError::Bad { number, reason: format!("block {number}: {error}") })
            }
        }
    }

    async fn raw_once(&self, number: u64, near: Near) -> Result<(Bytes, Vec<Bytes>), geth::Error> {
        let at = At::Number(number);
        match near {
            Near::Finalized => {
                let asked = async {
                    tokio::try_join!(self.client.raw_block(at), self.client.raw_receipts(at))
                };
                self.pace.ask_between_blocks(asked).await
            }
            Near::Head => {
                let block = self.client.raw_block(at).await?;
                let receipts = self.client.raw_receipts(At::Hash(hash_of(&block))).await?;
                Ok((block, receipts))
            }
        }
    }

    /// Decodes all blocks, recovers their senders together, and proves each by itself.
    fn prove_all(&self, raws: Vec<(u64, Raw)>) -> (Vec<Proved>, Vec<(u64, String)>) {
        let depth = self.options().depth();
        let (numbers, mut blocks): (Vec<_>, Vec<_>) =
            raws.into_iter().map(|(number, raw)| (number, raw.decode(depth))).unzip();
        if depth == Depth::Fields {
            recover::senders_in_parallel(&mut blocks);
        }
        let mut proved = Vec::with_capacity(blocks.len());
        let mut failed = Vec::new();
        for (number, block) in numbers.into_iter().zip(blocks) {
            match self.prove_one(number, block) {
                Ok(block) => proved.push(block),
                Err(reason) => failed.push((number, reason)),
            }
        }
        (proved, failed)
    }

    fn prove_one(&self, number: u64, block: anyhow::Result<Block>) -> Result<Proved, String> {
        let expected = Expected { number, hash: None, parent_hash: None };
        self.prove(block, &expected)
    }

    /// Proves a decoded block, and counts it if that fails.
    pub(super) fn prove(
        &self,
        block: Result<Block>,
        expected: &Expected,
    ) -> Result<Proved, String> {
        let proved = match block {
            Ok(block) => {
                prove(block, expected, &self.schedule).map_err(|failed| failed.0.to_string())
            }
            Err(error) => Err(format!("block {}: {error:#}", expected.number)),
        };
        proved.inspect_err(|_| {
            self.proof_failures.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// Warns once for each unknown transaction type, which is stored raw.
    pub(super) fn warn_of_unknown_types(&self, blocks: &[Proved]) {
        if self.options().depth() == Depth::Hashes {
            return;
        }
        for block in blocks {
            for transaction in
                block.transactions.iter().filter(|transaction| transaction.fields.is_none())
            {
                let mut warned = self.warned.lock().expect("nothing panics while holding it");
                if warned.insert(transaction.kind) {
                    tracing::warn!(
                        block = block.header.number,
                        transaction = %transaction.hash,
                        transaction_type = transaction.kind,
                        "unknown transaction type, stored raw: a newer spyhop may read it"
                    );
                }
            }
        }
    }

    /// Runs work on the pool.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FetchError> {
        let (sender, receiver) = oneshot::channel();
        self.pool.spawn(move || {
            // The receiver is gone only if the result is no longer needed.
            let _ = sender.send(work());
        });
        receiver.await.map_err(|_| FetchError::Stopped)
    }
}

/// The hash of a raw block's header; zero if it is malformed, so that its check fails.
fn hash_of(raw_block: &[u8]) -> B256 {
    header_link(raw_block).map(|(hash, _)| hash).unwrap_or_default()
}

/// Hash and parent hash of a raw block; `None` if it is malformed.
pub(super) fn header_link(raw_block: &[u8]) -> Option<(B256, B256)> {
    let header = Items::list(raw_block).ok()?.next_item().ok()?;
    let parent_hash: [u8; 32] = Items::list(header).ok()?.fixed().ok()?;
    Some((alloy_primitives::keccak256(header), parent_hash.into()))
}

pub(super) fn link(block: &Proved) -> BlockLink {
    let header = &block.header;
    BlockLink {
        number: header.number,
        hash: header.hash,
        parent_hash: header.parent_hash,
        timestamp: header.timestamp,
    }
}
