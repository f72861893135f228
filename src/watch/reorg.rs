//! A reorganisation: rewinds to the block that the node's chain and the tail share. Sealed ranges
//! are final and stay.

use super::error::FetchError;
use super::fetch::header_link;
use super::session::Session;
use crate::geth::{At, Head, Tag};
use crate::store::BlockLink;
use alloy_primitives::B256;

impl Session {
    /// Rewinds to the block that the node's chain and ours share.
    pub(super) async fn reorganise(
        &mut self,
        tip: BlockLink,
        head: Head,
    ) -> Result<(), FetchError> {
        let client = self.node.client.clone();
        let floor = self.tail.first().unwrap_or(tip.number + 1);
        let mut new_hashes = Vec::new();
        let mut number = tip.number.min(head.number);
        let (fork_block, fork_hash) = loop {
            let hash = client.head(Tag::Number(number)).await.map_err(FetchError::Away)?.hash;
            if number < floor {
                // Below the tail are the sealed ranges, if there are any.
                match self.sealed.top().filter(|sealed| sealed.number == number) {
                    Some(sealed) if sealed.hash != hash => {
                        let (ranges, root) = (&self.sealed.ranges, self.store.root());
                        return Err(self.node.contradiction(number, hash, ranges, root).await);
                    }
                    _ => break (number, hash),
                }
            }
            let ours = self.tail.links[(number - floor) as usize];
            if ours.hash == hash {
                break (number, hash);
            }
            new_hashes.push(hash);
            let Some(below) = number.checked_sub(1) else {
                client.check_chain().await.map_err(FetchError::Away)?;
                return Err(FetchError::Doubt("the node's block 0 changed".to_owned()));
            };
            number = below;
        };
        let Some(first) = new_hashes.last() else {
            let (Head { number, hash, parent_hash, .. }, node) = (head, fork_hash);
            return Err(FetchError::Doubt(format!(
                "the node reports block {number}, {hash}, with parent {parent_hash} as its head, \
                but block {fork_block} of its chain is {node}"
            )));
        };
        self.check_branch(fork_block, fork_hash, *first).await?;
        if fork_block < floor {
            // None of it is left: check whether it is another chain.
            client.check_chain().await.map_err(FetchError::Away)?;
        }
        new_hashes.reverse();
        self.rewind(fork_block, fork_hash, new_hashes)
    }

    /// Checks that the node has the first block of the other branch, before ours is given up for
    /// it.
    async fn check_branch(
        &self,
        fork_block: u64,
        fork_hash: B256,
        hash: B256,
    ) -> Result<(), FetchError> {
        let number = fork_block + 1;
        let doubt = |why: String| {
            FetchError::Doubt(format!(
                "block {number} of the node's chain is reported as {hash}: {why}"
            ))
        };
        let raw = match self.node.client.raw_block(At::Hash(hash)).await {
            Ok(raw) => raw,
            Err(error) if error.is_missing() => {
                return Err(doubt("it does not have that block".to_owned()));
            }
            Err(error) => return Err(FetchError::Away(error)),
        };
        match header_link(&raw) {
            Some((found, _)) if found != hash => Err(doubt(format!("it returned {found}"))),
            Some((_, parent)) if parent == fork_hash => Ok(()),
            Some((_, parent)) => Err(doubt(format!("its parent is {parent}, not {fork_hash}"))),
            None => Err(doubt("what it returned is not a block".to_owned())),
        }
    }

    /// Drops the tail above a block, to be replaced, and records the reorganisation.
    pub(super) fn rewind(
        &mut self,
        fork_block: u64,
        fork_hash: B256,
        new_hashes: Vec<B256>,
    ) -> Result<(), FetchError> {
        let dropped = self.tail.rewind(fork_block, fork_hash, new_hashes)?;
        if dropped > 0 {
            self.committed(&format!("reorganisation of {dropped} blocks above {fork_block}"))?;
        }
        Ok(())
    }
}
