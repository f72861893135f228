//! The node's state as last polled: its head, its finalized block, its chain, the state it serves.

use super::error::FetchError;
use super::freezer::FreezerLookup;
use super::heartbeat::age_s;
use super::pressure::{ANSWER_MAX, Gate, PauseReason, Pressure};
use super::rebuild::was_not_asked;
use super::settings::{Settings, Traces};
use crate::error::Refused;
use crate::freezer::Places;
use crate::geth::{self, Client, Head, Tag};
use crate::plan::BLOCK_MAX;
use crate::store::{BlockLink, Chain, Range, Store};
use alloy_primitives::B256;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait before asking again for a finalized block the node does not have: geth logs a
/// warning each time.
const FINALIZED_RETRY: Duration = Duration::from_secs(60);

/// The node's state as last polled.
#[derive(Debug)]
pub(super) struct Node {
    pub client: Client,
    pub chain: Chain,
    pub head: Option<Head>,
    pub finalized: Option<u64>,
    /// Why the finalized block it reports is not believed.
    pub doubt: Option<String>,
    freezer: FreezerLookup,
    /// Whether to request the state of history too, once it has a head.
    asks_state: bool,
    finality_depth: u64,
    /// When to ask again for a finalized block.
    finalized_retry_at: Instant,
    pressure: Pressure,
    /// The first block whose state it serves, if it reports that, and when it was asked.
    oldest_state: Option<u64>,
    state_asked_at: Option<Instant>,
}

impl Node {
    /// A node that was found but not yet polled.
    pub(super) fn new(
        client: Client,
        chain: Chain,
        freezer: FreezerLookup,
        settings: &Settings,
    ) -> Self {
        Self {
            client,
            chain,
            head: None,
            finalized: None,
            doubt: None,
            freezer,
            asks_state: settings.traces == Traces::All && settings.tables.needs_state(),
            finality_depth: settings.finality_depth,
            finalized_retry_at: Instant::now(),
            pressure: Pressure::default(),
            oldest_state: None,
            state_asked_at: None,
        }
    }

    /// Whether the node has a head, so that its chain is known. In snap sync it has none for hours,
    /// while its freezer fills with blocks that it has checked downwards from a finalized one.
    pub(super) fn is_anchored(&self) -> bool {
        self.head.is_some_and(|head| head.number > 0)
    }

    /// Polls the head. Closes the gate while the node is slow to answer or falls behind.
    pub(super) async fn look_at_head(&mut self, gate: &Gate) -> Result<Head, FetchError> {
        let client = self.client.clone();
        let mut answer = std::pin::pin!(client.head(Tag::Latest));
        let head = match tokio::time::timeout(ANSWER_MAX, &mut answer).await {
            Ok(head) => head,
            Err(_) => {
                gate.close_because(Some(PauseReason::NodeSlow));
                answer.await
            }
        };
        let head = head.map_err(FetchError::Away)?;
        if head.number > BLOCK_MAX {
            return Err(FetchError::Doubt(format!(
                "the node reports block {}, which no chain has",
                head.number
            )));
        }
        let behind = self.is_behind(head).await?;
        gate.close_because(behind.then_some(PauseReason::NodeBehind));
        Ok(head)
    }

    /// Whether the node once kept up and is now behind. A chain that makes no blocks has an old
    /// head too.
    async fn is_behind(&mut self, head: Head) -> Result<bool, FetchError> {
        if !age_s(head).is_some_and(|age_s| self.pressure.is_late(age_s)) {
            return Ok(false);
        }
        let syncing = self.client.syncing().await.map_err(FetchError::Away)?;
        let block = |name: &str| syncing[name].as_str().map(str::to_owned);
        Ok(block("currentBlock") != block("highestBlock"))
    }

    /// Polls the finalized block; if the node never had one, depth below the head decides.
    pub(super) async fn look_for_finalized(
        &mut self,
        head: Head,
        tip: Option<BlockLink>,
        store: &Store,
    ) -> Result<(), FetchError> {
        self.doubt = None;
        if Instant::now() >= self.finalized_retry_at {
            match self.client.head(Tag::Finalized).await {
                Ok(finalized) => {
                    self.doubt = self.doubt_of(finalized).await?;
                    if self.doubt.is_none() {
                        if !self.chain.finalized_seen {
                            self.chain.finalized_seen = true;
                            store.set_chain(&self.chain)?;
                            self.finalized = None;
                        }
                        self.finalized = self.finalized.max(Some(finalized.number));
                    }
                }
                Err(error) if error.is_missing() => {
                    self.finalized_retry_at = Instant::now() + FINALIZED_RETRY
                }
                Err(error) => return Err(FetchError::Away(error)),
            }
        }
        if !self.chain.finalized_seen {
            // A number alone does not make a block final: it must at least exist.
            let unproved = tip.is_none_or(|tip| head.number > tip.number);
            if unproved && self.hash_at(head.number).await?.is_none() {
                self.doubt =
                    Some(format!("the node reports block {}, which it does not have", head.number));
            } else {
                self.finalized = head.number.checked_sub(self.finality_depth);
            }
        }
        Ok(())
    }

    /// Why a block cannot be the finalized one: it is above the head, or not on the node's own
    /// chain.
    async fn doubt_of(&self, finalized: Head) -> Result<Option<String>, FetchError> {
        let Head { number, hash, .. } = finalized;
        if self.finalized.is_some_and(|known| number <= known) {
            return Ok(None);
        }
        // Polled again, because it may have advanced.
        let head = self.client.head(Tag::Latest).await.map_err(FetchError::Away)?;
        if number > head.number.min(BLOCK_MAX) {
            return Ok(Some(format!(
                "the node reports block {number} as finalized, but its head is {}",
                head.number
            )));
        }
        Ok(match self.hash_at(number).await? {
            Some(found) if found == hash => None,
            found => Some(format!(
                "the node reports block {number} as finalized with hash {hash}, but its chain {}",
                found.map_or("it does not have".to_owned(), |found| format!("has {found}"))
            )),
        })
    }

    /// The hash of the node's block of this height, if it has one.
    async fn hash_at(&self, number: u64) -> Result<Option<B256>, FetchError> {
        match self.client.head(Tag::Number(number)).await {
            Ok(head) => Ok(Some(head.hash)),
            // A pruned block did exist.
            Err(geth::Error::Pruned { .. }) => Ok(Some(B256::ZERO)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(FetchError::Away(error)),
        }
    }

    /// Checks that the node's chain is the one sealed in these ranges of a volume at `root`.
    pub(super) async fn check_sealed(
        &self,
        ranges: &[Range],
        root: &Path,
    ) -> Result<(), FetchError> {
        let head = self.head.map_or(0, |head| head.number);
        let Some(range) = ranges.iter().rev().find(|range| range.last <= head) else {
            return Ok(());
        };
        let hash = self.client.head(Tag::Number(range.last)).await.map_err(FetchError::Away)?.hash;
        if hash == range.manifest.last_hash {
            return Ok(());
        }
        Err(self.contradiction(range.last, hash, ranges, root).await)
    }

    /// The error for a chain that contradicts a sealed range, naming the block to rewind to.
    pub(super) async fn contradiction(
        &self,
        number: u64,
        hash: B256,
        ranges: &[Range],
        root: &Path,
    ) -> FetchError {
        let mut good = None;
        for range in ranges.iter().rev() {
            let node = self.client.head(Tag::Number(range.last)).await;
            if node.is_ok_and(|node| node.hash == range.manifest.last_hash) {
                good = Some(range.last);
                break;
            }
        }
        let hint = match good {
            Some(good) => format!(
                "is this the right node? if it is, `spyhop rewind --data {} --to {good}` moves \
                what is above to quarantine",
                root.display()
            ),
            None => "no sealed range is of this node's chain: give it a data directory of its own"
                .to_owned(),
        };
        FetchError::Other(
            Refused::new(
                format!(
                    "the node's chain contradicts what is sealed: it has {hash} at or above \
                    block {number}; nothing was touched"
                ),
                hint,
            )
            .into(),
        )
    }

    /// Looks for the freezer, or updates what it has. Returns where it and the era files are.
    pub(super) async fn look_at_freezer(&mut self) -> Result<&Places, FetchError> {
        self.freezer.look(&self.client, self.chain.identity.genesis_hash).await?;
        Ok(&self.freezer.places)
    }

    /// The blocks that can be read from the freezer and the era files: present, durable, and final.
    /// First and last of each run, ascending.
    pub(super) fn in_freezer(&self) -> Vec<(u64, u64)> {
        let end = if self.is_anchored() { self.finalized } else { Some(u64::MAX) };
        let Some(end) = end else { return Vec::new() };
        let extents = self.freezer.extents.iter().map(|&(first, last)| (first, last.min(end)));
        extents.filter(|(first, last)| first <= last).collect()
    }

    /// The last block that can be sealed.
    pub(super) fn last_final(&self) -> Option<u64> {
        if self.is_anchored() {
            self.finalized
        } else {
            self.in_freezer().last().map(|(_, last)| *last)
        }
    }

    /// Whether history is traced, and so is not read from the freezer.
    pub(super) fn is_traced(&self) -> bool {
        self.asks_state && self.is_anchored()
    }

    /// With traces of all blocks: polls the first block whose state the node serves, when it is
    /// due, and logs what cannot be requested. Returns whether that changed.
    pub(super) async fn look_for_state(
        &mut self,
        ranges: &[Range],
        root: &Path,
    ) -> Result<bool, FetchError> {
        const EVERY: Duration = Duration::from_secs(60);
        if !self.is_traced() || self.state_asked_at.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(false);
        }
        self.state_asked_at = Some(Instant::now());
        let oldest = match self.client.oldest_state().await {
            Ok(oldest) => Some(oldest),
            Err(error) if error.is_passing() => return Err(FetchError::Away(error)),
            Err(_) => None,
        };
        let before = (self.oldest_state, self.unserved(ranges));
        self.oldest_state = oldest;
        let (count, blocks) = self.unserved(ranges);
        if count > 0 && before != (oldest, (count, blocks)) {
            let remedy = self.remedy(root);
            tracing::warn!(
                ranges = count,
                blocks,
                oldest_state = oldest,
                "sealed blocks were not traced: {remedy}"
            );
        }
        Ok(before.0 != oldest)
    }

    /// Whether to request the state of a sealed range: it was never requested, and the node has all
    /// of it.
    pub(super) fn is_to_be_asked(&self, range: &Range) -> bool {
        self.is_traced()
            && was_not_asked(range)
            && self.oldest_state.is_some_and(|oldest| oldest <= range.first)
    }

    /// Sealed ranges whose state was never requested and this node does not serve, and their
    /// blocks.
    fn unserved(&self, ranges: &[Range]) -> (usize, u64) {
        let unserved =
            ranges.iter().filter(|range| was_not_asked(range) && !self.is_to_be_asked(range));
        unserved.fold((0, 0), |(count, blocks), range| (count + 1, blocks + range.blocks()))
    }

    /// The remedy for state that was requested but that this node does not serve.
    pub(super) fn remedy(&self, root: &Path) -> String {
        let oldest =
            self.oldest_state.map_or("not known".to_owned(), |oldest| format!("block {oldest}"));
        let data = root.display();
        format!(
            "this node serves state from {oldest} on; run `spyhop watch --traces all --data \
            {data} --ipc SOCKET` next to an archive node"
        )
    }
}
