//! Following: extends the tail towards the node's head, a few blocks at a time.

use super::error::FetchError;
use super::session::Session;
use super::tail::{Extended, TAIL_BATCH};
use crate::geth::{Head, Tag};
use crate::store::BlockLink;

impl Session {
    /// Extends the tail towards the node's head. Returns whether anything was done.
    pub(super) async fn follow(&mut self, head: Head) -> Result<bool, FetchError> {
        self.tail.load(&self.sealed, &self.node).await?;
        let hole = self.tail.hole;
        if !self.node.is_anchored() || !(self.settings.follows() || hole.is_some()) {
            return Ok(false);
        }
        if let Some(tip) = self.tip().filter(|tip| self.is_next(tip.number + 1)) {
            if head.number < tip.number {
                // After an unclean stop geth comes back some blocks lower: that is no
                // reorganisation while the hashes agree.
                let ours = self.tail.links.iter().find(|link| link.number == head.number);
                if ours.is_some_and(|ours| ours.hash != head.hash) {
                    return self.reorganise(tip, head).await.map(|()| true);
                }
                let state = format!(
                    "waiting: the node's head went back to {}, {} is stored",
                    head.number, tip.number
                );
                self.reporter.log_state(state);
                return Ok(false);
            }
            let hash = match head.number - tip.number {
                0 => head.hash,
                1 => head.parent_hash,
                _ => {
                    self.node
                        .client
                        .head(Tag::Number(tip.number))
                        .await
                        .map_err(FetchError::Away)?
                        .hash
                }
            };
            if hash != tip.hash {
                return self.reorganise(tip, head).await.map(|()| true);
            }
        }
        if let Some((first, last)) = hole {
            if head.number < last || !self.has_room(0)? {
                return Ok(false);
            }
            self.reporter.log_state(format!(
                "blocks {first} to {last} of the tail are missing and being fetched again"
            ));
            return match self.extend(first, last.min(first + TAIL_BATCH - 1)).await {
                Err(FetchError::Pruned(reason)) => {
                    let blocks = self.tail.leave_hole((first, last));
                    self.sealed.note_failure(
                        blocks,
                        "missing",
                        format!("pruned history: {reason}"),
                    );
                    self.publication.dirty = true;
                    Ok(true)
                }
                extended => extended,
            };
        }
        let known = self.known();
        let next = known.tail_next();
        if head.number < next && self.tip().is_none() {
            let state = format!(
                "waiting: the node's head is block {}, the next block to store is {next}",
                head.number
            );
            self.reporter.log_state(state);
        }
        if head.number < next || known.tail_waits() || !self.has_room(0)? {
            return Ok(false);
        }
        self.extend(next, head.number.min(next + TAIL_BATCH - 1)).await
    }

    /// Loads all of the tail, and fetches its missing blocks as far as the node has them.
    pub(super) async fn fill_tail(&mut self, head: Head) -> Result<(), FetchError> {
        self.tail.load(&self.sealed, &self.node).await?;
        while self.tail.hole.is_some() && self.follow(head).await? {
            self.tail.load(&self.sealed, &self.node).await?;
        }
        self.tail.hole = None;
        Ok(())
    }

    /// Whether a block of this height would be the tail's next.
    fn is_next(&self, number: u64) -> bool {
        self.known().tail_next() == number
    }

    /// Adds blocks to the tail. Returns whether there were any.
    async fn extend(&mut self, first: u64, last: u64) -> Result<bool, FetchError> {
        let below = self.tip().filter(|tip| tip.number + 1 == first);
        match self.tail.extend((first, last), below).await? {
            Extended::By(1) => self.committed(&format!("block {first}"))?,
            Extended::By(count) => {
                self.committed(&format!("blocks {first} to {}", first + count - 1))?
            }
            Extended::Stray(link) => {
                self.explain(link).await?;
                // The next step handles the reorganisation.
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The node's next block does not link to our tip: either its chain changed, which the next
    /// step handles, or the block is bad.
    async fn explain(&self, stray: BlockLink) -> Result<(), FetchError> {
        let Some(tip) = self.tip() else { return Ok(()) };
        let node =
            self.node.client.head(Tag::Number(tip.number)).await.map_err(FetchError::Away)?;
        if node.hash != tip.hash {
            return Ok(());
        }
        let BlockLink { number, parent_hash, .. } = stray;
        let reason =
            format!("block {number}: parent hash: expected {}, found {parent_hash}", tip.hash);
        Err(self.tail.fetcher.quarantine(number, reason).await?)
    }
}
