//! The node as it is seen: its head, what is final, which chain it is on, what it serves.

use super::error::FetchError;
use super::freezer::FreezerLookup;
use super::heartbeat::age_s;
use super::mend::was_not_asked;
use super::pressure::{ANSWER_MAX, Gate, Pressure};
use super::settings::{Settings, Traces};
use crate::error::Refused;
use crate::freezer::Places;
use crate::geth::{self, Client, Head, Tag};
use crate::plan::BLOCK_MAX;
use crate::store::{BlockLink, Chain, Range, Store};
use alloy_primitives::B256;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a node that names no finalized block is not asked again: geth logs a warning each time.
const FINALIZED_RETRY: Duration = Duration::from_secs(60);

/// The node as it is seen.
#[derive(Debug)]
pub struct Node {
    pub client: Client,
    pub chain: Chain,
    pub head: Option<Head>,
    pub finalized: Option<u64>,
    /// Why the node is not believed which block is final.
    pub doubt: Option<String>,
    freezer: FreezerLookup,
    /// Whether it is asked for the state of history too, once it has a head.
    asks_state: bool,
    finality_depth: u64,
    /// When it is asked again for a finalized block after it had none.
    finalized_retry_at: Instant,
    pressure: Pressure,
    /// From which block on it serves state, where it says so, and when it was asked.
    oldest_state: Option<u64>,
    state_asked_at: Option<Instant>,
}

impl Node {
    /// A node that was found, and not yet looked at.
    pub fn new(client: Client, chain: Chain, freezer: FreezerLookup, settings: &Settings) -> Self {
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

    /// Whether the node has a head, and so can say which chain is its own. In snap sync it has none
    /// for hours, while its freezer fills with blocks that it has checked from a finalized one
    /// downwards.
    pub fn is_anchored(&self) -> bool {
        self.head.is_some_and(|head| head.number > 0)
    }

    /// Asks for the head. While the node is slow to answer or falls behind, the gate is closed.
    pub async fn look_at_head(&mut self, gate: &Gate) -> Result<Head, FetchError> {
        let client = self.client.clone();
        let mut answer = std::pin::pin!(client.head(Tag::Latest));
        let head = match tokio::time::timeout(ANSWER_MAX, &mut answer).await {
            Ok(head) => head,
            Err(_) => {
                gate.close_because(Some("the node is slow to answer"));
                answer.await
            }
        };
        let head = head.map_err(FetchError::Away)?;
        if head.number > BLOCK_MAX {
            return Err(FetchError::Doubt(format!(
                "the node's head is said to be block {}, which no chain has",
                head.number
            )));
        }
        let behind = self.is_behind(head).await?;
        gate.close_because(behind.then_some("the node has fallen behind"));
        Ok(head)
    }

    /// Whether the node once kept up and now has blocks to catch up with. A chain that makes no
    /// blocks has an old head too.
    async fn is_behind(&mut self, head: Head) -> Result<bool, FetchError> {
        if !age_s(head).is_some_and(|age_s| self.pressure.is_late(age_s)) {
            return Ok(false);
        }
        let syncing = self.client.syncing().await.map_err(FetchError::Away)?;
        let block = |name: &str| syncing[name].as_str().map(str::to_owned);
        Ok(block("currentBlock") != block("highestBlock"))
    }

    /// Asks which block is final; without an answer, and if there never was one, depth below the
    /// head decides.
    pub async fn look_for_finalized(
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
            // By its number alone nothing becomes final: it is at least to be there.
            let unproved = tip.is_none_or(|tip| head.number > tip.number);
            if unproved && self.hash_at(head.number).await?.is_none() {
                self.doubt = Some(format!(
                    "the node's head is said to be block {}, which it does not have",
                    head.number
                ));
            } else {
                self.finalized = head.number.checked_sub(self.finality_depth);
            }
        }
        Ok(())
    }

    /// Why a block cannot be the finalized one: above the head, or not of the node's own chain.
    async fn doubt_of(&self, finalized: Head) -> Result<Option<String>, FetchError> {
        let Head { number, hash, .. } = finalized;
        if self.finalized.is_some_and(|known| number <= known) {
            return Ok(None);
        }
        // Asked anew: it may have grown meanwhile.
        let head = self.client.head(Tag::Latest).await.map_err(FetchError::Away)?;
        if number > head.number.min(BLOCK_MAX) {
            return Ok(Some(format!(
                "the node says that block {number} is final, and its head is {}",
                head.number
            )));
        }
        Ok(match self.hash_at(number).await? {
            Some(found) if found == hash => None,
            found => Some(format!(
                "the node says that block {number} is final with hash {hash}, and that of its chain {}",
                found.map_or("it does not have".to_owned(), |found| format!("has {found}"))
            )),
        })
    }

    /// The hash of the node's block of this height, where it has one.
    async fn hash_at(&self, number: u64) -> Result<Option<B256>, FetchError> {
        match self.client.head(Tag::Number(number)).await {
            Ok(head) => Ok(Some(head.hash)),
            // What was pruned was there.
            Err(geth::Error::Pruned { .. }) => Ok(Some(B256::ZERO)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(FetchError::Away(error)),
        }
    }

    /// Makes sure that the node's chain is the one that is sealed in these ranges of a volume at
    /// `root`.
    pub async fn check_sealed(&self, ranges: &[Range], root: &Path) -> Result<(), FetchError> {
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

    /// The error for a chain that contradicts a sealed range, naming the block to go back to.
    pub async fn contradiction(
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
                "is this the right node? if it is, `spyhop rewind --data {} --to {good}` moves what is above to quarantine",
                root.display()
            ),
            None => "no sealed range is of this node's chain: give it a data directory of its own"
                .to_owned(),
        };
        FetchError::Other(
            Refused::new(
                format!("the node's chain contradicts what is sealed: it has {hash} at or above block {number}; nothing was touched"),
                hint,
            )
            .into(),
        )
    }

    /// Looks for the freezer, or at what it holds by now. Says where it and the era files are.
    pub async fn look_at_freezer(&mut self) -> Result<&Places, FetchError> {
        self.freezer.look(&self.client, self.chain.identity.genesis_hash).await?;
        Ok(&self.freezer.places)
    }

    /// The blocks that can be read out of the freezer and the era files: there, durable, and final.
    /// First and last of each run of them, ascending.
    pub fn in_freezer(&self) -> Vec<(u64, u64)> {
        let end = if self.is_anchored() { self.finalized } else { Some(u64::MAX) };
        let Some(end) = end else { return Vec::new() };
        let extents = self.freezer.extents.iter().map(|&(first, last)| (first, last.min(end)));
        extents.filter(|(first, last)| first <= last).collect()
    }

    /// The last block that can be sealed.
    pub fn last_final(&self) -> Option<u64> {
        if self.is_anchored() {
            self.finalized
        } else {
            self.in_freezer().last().map(|(_, last)| *last)
        }
    }

    /// Whether history is traced, and so does not come out of the freezer.
    pub fn is_traced(&self) -> bool {
        self.asks_state && self.is_anchored()
    }

    /// With traces of all blocks: asks from which block on the node serves state, now and then, and
    /// logs what it is not asked for. Says whether that has changed.
    pub async fn look_for_state(
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

    /// Whether the node is to be asked once more for the state of a sealed range: nobody asked, and
    /// it has all of it.
    pub fn is_to_be_asked(&self, range: &Range) -> bool {
        self.is_traced()
            && was_not_asked(range)
            && self.oldest_state.is_some_and(|oldest| oldest <= range.first)
    }

    /// Sealed ranges whose state nobody asked for and this node does not serve, and their blocks.
    fn unserved(&self, ranges: &[Range]) -> (usize, u64) {
        let unserved =
            ranges.iter().filter(|range| was_not_asked(range) && !self.is_to_be_asked(range));
        unserved.fold((0, 0), |(count, blocks), range| (count + 1, blocks + range.blocks()))
    }

    /// What to do about state that nobody asked for, where it was wanted and this node does not
    /// serve it.
    pub fn remedy(&self, root: &Path) -> String {
        let oldest =
            self.oldest_state.map_or("not known".to_owned(), |oldest| format!("block {oldest}"));
        let data = root.display();
        format!(
            "this node serves state from {oldest} on: `spyhop watch --traces all --data {data} --ipc SOCKET` beside an archive node asks for it"
        )
    }
}
