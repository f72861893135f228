//! The tail: the canonical blocks above the sealed ranges, one file each.
//!
//! It is loaded from its lower end, block by block, as each links to the one below; a missing block
//! is fetched first, with the state that the node still has.

use super::abort::AbortOnDrop;
use super::error::FetchError;
use super::fetch::{Ahead, Ask, FetchBatch, Fetcher};
use super::hydrate::Hydration;
use super::node::Node;
use super::sealed::Sealed;
use super::state::Near;
use super::tokens::Account;
use crate::clock::now;
use crate::geth::Tag;
use crate::log::phase;
use crate::rows::{Gap, Part, combine, reorgs::Reorg, tokens};
use crate::store::{BlockLink, Damaged, TailBlock, tail};
use alloy_primitives::B256;
use anyhow::{Result, ensure};
use std::collections::VecDeque;
use std::sync::Arc;

/// Blocks per fetch batch while the tail catches up.
pub(super) const TAIL_BATCH: u64 = 16;

/// A batch of this many bytes gets no further block.
const TAIL_BYTES: u64 = 128 << 20;

#[derive(Debug)]
pub(super) struct Tail {
    /// Runs at normal priority.
    pub fetcher: Fetcher,
    /// Its blocks, ascending, each linked to the previous one.
    pub links: Vec<BlockLink>,
    /// Blocks that lack rows of some table.
    pub gaps: Vec<Gap>,
    /// Its files that are not loaded yet, ascending, with their gaps.
    loose: Vec<(BlockLink, Vec<Gap>)>,
    /// Whether they were looked at, and the hole below the lowest of them.
    is_loaded: bool,
    pub hole: Option<(u64, u64)>,
    /// A block whose file is damaged, to be fetched again.
    lost: Option<BlockLink>,
    pub hydration: Hydration,
    /// How many blocks to prefetch.
    ahead: Ahead,
}

/// The result of adding blocks.
#[derive(Debug)]
pub(super) enum Extended {
    /// This many were added.
    By(u64),
    /// None was: the first does not link to the tip.
    Stray(BlockLink),
}

impl Tail {
    /// Lists the tail's files, and removes those up to `sealed`.
    pub(super) fn open(fetcher: Fetcher, sealed: Option<BlockLink>) -> Result<Self> {
        let mut loose = Vec::new();
        for (link, gaps) in tail::list(&fetcher.store, fetcher.options().tables)? {
            match sealed {
                Some(sealed) if link.number <= sealed.number => {
                    tail::remove(fetcher.store.root(), link.number, link.hash)?;
                }
                _ => loose.push((link, gaps)),
            }
        }
        Ok(Self {
            fetcher,
            links: Vec::new(),
            gaps: Vec::new(),
            loose,
            is_loaded: false,
            hole: None,
            lost: None,
            hydration: Hydration::default(),
            ahead: Ahead::up_to(TAIL_BATCH as usize),
        })
    }

    /// The lowest block that has a file, loaded or not.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.links.first().or(self.loose.first().map(|(link, _)| link)).map(|link| link.number)
    }

    /// Its first block.
    pub(super) fn first(&self) -> Option<u64> {
        self.links.first().map(|link| link.number)
    }

    /// Its first and its last block.
    pub(super) fn blocks(&self) -> Option<(u64, u64)> {
        self.links.first().zip(self.links.last()).map(|(first, last)| (first.number, last.number))
    }

    /// Loads its files, each when it links to the block below. Those left over are above a hole,
    /// which must be filled first.
    pub(super) async fn load(&mut self, sealed: &Sealed, node: &Node) -> Result<(), FetchError> {
        if !self.is_loaded || !self.loose.is_empty() {
            self.hole = self.next_hole(sealed, node).await?;
            self.is_loaded = true;
        } else {
            self.hole = None;
        }
        Ok(())
    }

    async fn next_hole(
        &mut self,
        sealed: &Sealed,
        node: &Node,
    ) -> Result<Option<(u64, u64)>, FetchError> {
        while let Some(&(BlockLink { number: lowest, .. }, _)) = self.loose.first() {
            let next = match self.links.last() {
                Some(tip) => tip.number + 1,
                None => sealed.tail_start(lowest, node.finalized, node.chain.finalized_seen),
            };
            if next < lowest {
                return Ok(Some((next, lowest - 1)));
            }
            let below = self
                .links
                .last()
                .copied()
                .or_else(|| sealed.top())
                .filter(|below| below.number + 1 == lowest);
            let level = self.loose.partition_point(|(link, _)| link.number == lowest);
            let links = |link: &BlockLink| {
                link.number == next && below.is_none_or(|below| link.parent_hash == below.hash)
            };
            let mut candidates = (0..level).filter(|index| links(&self.loose[*index].0));
            let (first, second) = (candidates.next(), candidates.next());
            let chosen = match second {
                None => first,
                Some(_) => {
                    // After a crash the node decides which.
                    let hash =
                        node.client.head(Tag::Number(lowest)).await.map_err(FetchError::Away)?.hash;
                    (0..level).find(|index| self.loose[*index].0.hash == hash)
                }
            };
            for (index, (link, gaps)) in self.loose.drain(..level).enumerate() {
                if Some(index) == chosen {
                    self.links.push(link);
                    gaps.into_iter().for_each(|gap| Gap::push(&mut self.gaps, gap));
                } else {
                    tracing::warn!(block = link.number, hash = %link.hash, "block of the tail \
                        does not link to the one below, moved to quarantine");
                    self.fetcher
                        .store
                        .quarantine_path(&tail::path(link.number, link.hash), "unlinked")?;
                }
            }
        }
        Ok(None)
    }

    /// Whether a hole in it is being filled: meanwhile nothing is published or built.
    pub(super) fn is_filling(&self, node: &Node) -> bool {
        !self.is_loaded || (self.hole.is_some() && node.is_anchored())
    }

    /// Describes the hole, while there is one.
    pub(super) fn hole_reason(&self) -> Option<String> {
        let (first, last) = self.hole?;
        Some(format!("blocks {first} to {last} of the tail are missing and being fetched again"))
    }

    /// Adds blocks; the first must link to `below` if that is given.
    pub(super) async fn extend(
        &mut self,
        (first, last): (u64, u64),
        mut below: Option<BlockLink>,
    ) -> Result<Extended, FetchError> {
        let hydrated: Vec<_> =
            (0..=last - first).map(|index| self.hydration.of_block(index as usize)).collect();
        let mut wanted = (first..=last).zip(&hydrated);
        let mut in_progress = VecDeque::new();
        let mut blocks = Vec::new();
        let mut bytes = 0;
        loop {
            // Prefetched blocks are dropped if those before them are large enough by themselves.
            let more = if bytes < TAIL_BYTES { self.ahead.get() } else { 0 };
            in_progress.extend(wanted.by_ref().take(more.saturating_sub(in_progress.len())).map(
                |(number, hydrated)| {
                    let mut fetcher = self.fetcher.clone();
                    fetcher.state.hydrated = hydrated.clone();
                    AbortOnDrop::spawn(async move {
                        fetcher.fetch(number, number, Ask::Block(Near::Head)).await
                    })
                },
            ));
            let Some(request) = in_progress.pop_front().filter(|_| bytes < TAIL_BYTES) else {
                break;
            };
            let batch = request.await??;
            self.ahead.note(batch.weight());
            bytes += batch.weight();
            let link = batch.links[0];
            if below.is_some_and(|below| below.hash != link.parent_hash) {
                if blocks.is_empty() {
                    return Ok(Extended::Stray(link));
                }
                break;
            }
            below = Some(link);
            let FetchBatch { parts, gaps, .. } = batch;
            let batches = parts.into_iter().map(Part::rows).collect::<Result<_>>()?;
            blocks.push(TailBlock { link, tables: self.fetcher.options().tables, batches, gaps });
        }
        drop(in_progress);
        {
            let _phase = phase("tail");
            tail::write(&self.fetcher.store, &blocks)?;
        }
        self.take_in(&blocks, &hydrated)?;
        self.links.extend(blocks.iter().map(|block| block.link));
        blocks
            .iter()
            .flat_map(|block| &block.gaps)
            .for_each(|gap| Gap::push(&mut self.gaps, gap.clone()));
        Ok(Extended::By(blocks.len() as u64))
    }

    /// Records what need not be requested again now that these blocks are written.
    fn take_in(&mut self, blocks: &[TailBlock], hydrated: &[Arc<[Account]>]) -> Result<()> {
        for (block, hydrated) in blocks.iter().zip(hydrated) {
            self.hydration.take_in(block, hydrated.clone())?;
            if let Some(tokens) = block.batch(&tokens::TABLE) {
                let tokens = combine::read(tokens)?;
                self.fetcher
                    .state
                    .memory
                    .lock()
                    .expect("nothing panics while holding it")
                    .take_in(&tokens);
            }
        }
        Ok(())
    }

    /// Drops the blocks above one, to be replaced by another branch, and records that. Returns how
    /// many there were.
    pub(super) fn rewind(
        &mut self,
        fork_block: u64,
        fork_hash: B256,
        new_hashes: Vec<B256>,
    ) -> Result<usize> {
        let kept = self.links.partition_point(|link| link.number <= fork_block);
        let old_hashes: Vec<_> = self.links[kept..].iter().map(|link| link.hash).collect();
        if old_hashes.is_empty() {
            // The node changed back in the meantime.
            return Ok(0);
        }
        let reorg = Reorg { detected_at: now(), fork_block, fork_hash, old_hashes, new_hashes };
        {
            let _phase = phase("reorg");
            self.fetcher.store.reorganise(&reorg)?;
        }
        self.links.truncate(kept);
        self.trim_gaps();
        self.hydration.forget_blocks(&reorg.old_hashes);
        self.forget_tokens();
        Ok(reorg.old_hashes.len())
    }

    /// Forgets what was requested about tokens: the blocks that have it are gone.
    pub(super) fn forget_tokens(&self) {
        self.fetcher.state.memory.lock().expect("nothing panics while holding it").forget();
    }

    /// Removes blocks that are in a sealed range. A file that cannot be removed does no harm: the
    /// next start removes it.
    pub(super) fn drop_sealed(&mut self, sealed: &Sealed) {
        for link in self.links.extract_if(.., |link| sealed.has(link.number)) {
            if let Err(error) = tail::remove(self.fetcher.store.root(), link.number, link.hash) {
                tracing::warn!(
                    block = link.number,
                    "tail file of a sealed block is left until the next start: {error:#}"
                );
            }
        }
        self.trim_gaps();
    }

    /// Gives up the blocks below a hole that cannot be filled. Returns what is then missing.
    pub(super) fn leave_hole(&mut self, (first, last): (u64, u64)) -> (u64, u64) {
        let first = self.first().unwrap_or(first);
        self.links.clear();
        self.gaps.clear();
        (first, last)
    }

    /// Forgets gaps of blocks that have left the tail.
    fn trim_gaps(&mut self) {
        match self.blocks() {
            Some((first, last)) => Gap::trim(&mut self.gaps, first, last),
            None => self.gaps.clear(),
        }
    }

    /// Its blocks below the first damaged one.
    pub(super) fn whole(&self) -> &[BlockLink] {
        let lost = self.lost.and_then(|lost| self.links.iter().position(|link| *link == lost));
        &self.links[..lost.unwrap_or(self.links.len())]
    }

    /// Records the block whose file an error is about, if it is about one.
    pub(super) fn note_lost(&mut self, error: &anyhow::Error) {
        let Some(Damaged { path, .. }) = error.downcast_ref() else { return };
        let lost = self.links.iter().find(|link| *path == tail::path(link.number, link.hash));
        self.lost = self.lost.or(lost.copied());
    }

    /// Fetches the block whose file is damaged. Returns whether there was one.
    pub(super) async fn refetch_lost(&mut self) -> Result<bool, FetchError> {
        let Some(lost) = self.lost.filter(|lost| self.links.contains(lost)) else {
            return Ok(false);
        };
        let FetchBatch { links, parts, gaps, .. } = self.fetcher.of_tail(lost).await?;
        // If the node's chain has changed, the next step handles it.
        if links == [lost] {
            let batches = parts.into_iter().map(Part::rows).collect::<Result<_>>()?;
            let (number, tables) = (lost.number, self.fetcher.options().tables);
            tail::write(
                &self.fetcher.store,
                &[TailBlock { link: lost, tables, batches, gaps: gaps.clone() }],
            )?;
            let before = std::mem::take(&mut self.gaps);
            let (mut below, mut above) = (before.clone(), before);
            Gap::trim(&mut below, 0, number.saturating_sub(1));
            below.retain(|gap| gap.first < number);
            Gap::trim(&mut above, number + 1, u64::MAX);
            below
                .into_iter()
                .chain(gaps)
                .chain(above)
                .for_each(|gap| Gap::push(&mut self.gaps, gap));
        }
        self.lost = None;
        Ok(true)
    }

    /// Checks that it is one run of blocks, on the last sealed one if that is below, so that a bug
    /// is not published.
    pub(super) fn check_links(&self, sealed: Option<BlockLink>) -> Result<()> {
        let follows = |below: &BlockLink, above: &BlockLink| {
            ensure!(
                above.number == below.number + 1 && above.parent_hash == below.hash,
                "block {} of the tail does not follow on block {}; start again, and verify the \
                data",
                above.number,
                below.number
            );
            Ok(())
        };
        self.links.windows(2).try_for_each(|pair| follows(&pair[0], &pair[1]))?;
        let (Some(first), Some(sealed)) = (self.links.first(), sealed) else { return Ok(()) };
        if first.number == sealed.number + 1 {
            follows(&sealed, first)?;
        }
        Ok(())
    }
}
