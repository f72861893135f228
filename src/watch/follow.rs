//! One step: look at the node and the store, do the next thing, commit it.

use super::build::Job;
use super::fetch::AbortOnDrop;
use super::fetch::{Near, Trouble};
use super::phase;
use super::session::{Failure, GRACE, Session, UnderWay, now};
use crate::error::Refused;
use crate::geth::{Head, Tag};
use crate::rows::reorgs::Reorg;
use crate::store::{BlockLink, TailBlock, chunk, next_merge, tail};
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Blocks of the tail that are fetched side by side while it catches up.
const TAIL_CHUNK: u64 = 16;

/// How long a piece that failed is left alone.
const RETRY: Duration = Duration::from_secs(600);

/// How long a node that names no finalized block is not asked again: geth logs a warning each time.
const FINALIZED_RETRY: Duration = Duration::from_secs(60);

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was done, and there may be more.
    Advanced,
    /// There is nothing to do now.
    Idle,
    /// With `once`: all is done.
    Done,
}

impl Session {
    /// Does the next thing.
    pub async fn step(&mut self) -> Result<Step, Trouble> {
        self.finish_job().await?;
        let head = self.client.head(Tag::Latest).await.map_err(Trouble::Away)?;
        if self.head != Some(head) {
            self.look_for_finalized(head).await?;
        }
        let first_look = self.head.is_none();
        self.head = Some(head);
        if first_look {
            self.check_sealed().await?;
        }
        let advanced = self.follow(head).await?;
        let started = self.start_job()?;
        self.collect()?;
        let done = !advanced && !started && self.under_way.is_empty();
        self.publish(done)?;
        self.unhealthy = None;
        self.beat()?;
        if done && self.settings.once && self.known().tail_next() > head.number {
            return Ok(Step::Done);
        }
        Ok(if advanced { Step::Advanced } else { Step::Idle })
    }

    /// Asks which block is final; without an answer, and if there never was one, depth decides.
    async fn look_for_finalized(&mut self, head: Head) -> Result<(), Trouble> {
        if Instant::now() >= self.finalized_retry_at {
            match self.client.head(Tag::Finalized).await {
                Ok(finalized) => {
                    if !self.chain.finalized_seen {
                        self.chain.finalized_seen = true;
                        self.store.set_chain(&self.chain)?;
                        self.finalized = None;
                    }
                    self.finalized = self.finalized.max(Some(finalized.number));
                }
                Err(error) if error.is_missing() => self.finalized_retry_at = Instant::now() + FINALIZED_RETRY,
                Err(error) => return Err(Trouble::Away(error)),
            }
        }
        if !self.chain.finalized_seen {
            self.finalized = head.number.checked_sub(self.settings.finality_depth);
        }
        Ok(())
    }

    /// Makes sure that the node's chain is the one that is sealed.
    async fn check_sealed(&mut self) -> Result<(), Trouble> {
        let head = self.head.map_or(0, |head| head.number);
        let Some(range) = self.ranges.iter().rev().find(|range| range.last <= head) else { return Ok(()) };
        let hash = self.client.head(Tag::Number(range.last)).await.map_err(Trouble::Away)?.hash;
        if hash == range.manifest.last_hash { Ok(()) } else { Err(self.contradiction(range.last, hash).await?) }
    }

    /// The error for a chain that contradicts a sealed range, naming the block to go back to.
    async fn contradiction(&self, number: u64, hash: alloy_primitives::B256) -> Result<Trouble, Trouble> {
        let mut good = None;
        for range in self.ranges.iter().rev() {
            let node = self.client.head(Tag::Number(range.last)).await;
            if node.is_ok_and(|node| node.hash == range.manifest.last_hash) {
                good = Some(range.last);
                break;
            }
        }
        let hint = match good {
            Some(good) => format!(
                "is this the right node? if it is, `spyhop rewind --data {} --to {good}` moves what is above to quarantine",
                self.store.root().display()
            ),
            None => "no sealed range is of this node's chain: give it a data directory of its own".to_owned(),
        };
        Ok(Trouble::Other(
            Refused::new(
                format!("the node's chain contradicts what is sealed: it has {hash} at or above block {number}; nothing was touched"),
                hint,
            )
            .into(),
        ))
    }

    /// Brings the tail nearer to the node's head. Says whether anything was done.
    async fn follow(&mut self, head: Head) -> Result<bool, Trouble> {
        if let Some(tip) = self.tip().filter(|tip| self.is_next(tip.number + 1)) {
            if head.number < tip.number {
                // After an unclean stop geth comes back some blocks lower: that is no reorganisation while the hashes agree.
                let ours = self.tail.iter().find(|link| link.number == head.number);
                if ours.is_some_and(|ours| ours.hash != head.hash) {
                    return self.reorganise(tip, head).await.map(|()| true);
                }
                self.teller
                    .say(format!("waiting: the node's head went back to {}, {} is held", head.number, tip.number));
                return Ok(false);
            }
            let hash = match head.number - tip.number {
                0 => head.hash,
                1 => head.parent_hash,
                _ => self.client.head(Tag::Number(tip.number)).await.map_err(Trouble::Away)?.hash,
            };
            if hash != tip.hash {
                return self.reorganise(tip, head).await.map(|()| true);
            }
        }
        let known = self.known();
        let next = known.tail_next();
        if head.number < next || known.tail_waits() || !self.has_room(0)? {
            return Ok(false);
        }
        self.extend(next, head.number.min(next + TAIL_CHUNK - 1)).await
    }

    /// Whether a block of this height would be the tail's next.
    fn is_next(&self, number: u64) -> bool {
        self.known().tail_next() == number
    }

    /// Adds blocks to the tail.
    async fn extend(&mut self, first: u64, last: u64) -> Result<bool, Trouble> {
        let requests: Vec<_> = (first..=last)
            .map(|number| {
                let fetcher = self.fetcher.clone();
                AbortOnDrop(tokio::spawn(async move { fetcher.chunk(number, number, Near::Head).await }))
            })
            .collect();
        let mut below = self.tip().filter(|tip| tip.number + 1 == first);
        let mut blocks = Vec::new();
        let mut stray = None;
        for request in requests {
            let chunk = request.await??;
            let link = chunk.links[0];
            if below.is_some_and(|below| below.hash != link.parent_hash) {
                stray = Some(link);
                break;
            }
            below = Some(link);
            blocks.push(TailBlock { link, batches: chunk.batches });
        }
        if let (true, Some(stray)) = (blocks.is_empty(), stray) {
            self.explain(stray).await?;
            return Ok(true);
        }
        {
            let _phase = phase("tail");
            tail::write(&self.store, &blocks)?;
        }
        self.tail.extend(blocks.iter().map(|block| block.link));
        self.dirty = true;
        let what = match &blocks[..] {
            [block] => format!("block {}", block.link.number),
            blocks => format!("blocks {first} to {}", first + blocks.len() as u64 - 1),
        };
        self.committed(&what)?;
        Ok(true)
    }

    /// The node's next block does not link to our tip: either its chain changed, which the next step sees, or the block is bad.
    async fn explain(&self, stray: BlockLink) -> Result<(), Trouble> {
        let Some(tip) = self.tip() else { return Ok(()) };
        let node = self.client.head(Tag::Number(tip.number)).await.map_err(Trouble::Away)?;
        if node.hash != tip.hash {
            return Ok(());
        }
        let BlockLink { number, parent_hash, .. } = stray;
        let reason = format!("block {number}: parent hash: expected {}, found {parent_hash}", tip.hash);
        Err(self.fetcher.quarantine(number, reason).await?)
    }

    /// Goes back to the block that the node's chain and ours share.
    async fn reorganise(&mut self, tip: BlockLink, head: Head) -> Result<(), Trouble> {
        let floor = self.tail.first().map_or(tip.number + 1, |link| link.number);
        let mut new_hashes = Vec::new();
        let mut number = tip.number.min(head.number);
        let (fork_block, fork_hash) = loop {
            let node = self.client.head(Tag::Number(number)).await.map_err(Trouble::Away)?;
            if number < floor {
                // Below the tail lies what is sealed, if anything does.
                match self.sealed().filter(|sealed| sealed.number == number) {
                    Some(sealed) if sealed.hash != node.hash => {
                        return Err(self.contradiction(number, node.hash).await?);
                    }
                    _ => break (number, node.hash),
                }
            }
            let ours = self.tail[(number - floor) as usize];
            if ours.hash == node.hash {
                break (number, node.hash);
            }
            new_hashes.push(node.hash);
            let Some(below) = number.checked_sub(1) else {
                return Err(Trouble::Other(anyhow::anyhow!("the node's block 0 changed")));
            };
            number = below;
        };
        new_hashes.reverse();
        let kept = self.tail.partition_point(|link| link.number <= fork_block);
        let old_hashes: Vec<_> = self.tail[kept..].iter().map(|link| link.hash).collect();
        if old_hashes.is_empty() {
            // The node changed its mind back while we looked.
            return Ok(());
        }
        let reorg = Reorg { detected_at: now(), fork_block, fork_hash, old_hashes, new_hashes };
        {
            let _phase = phase("reorg");
            self.store.reorganise(&reorg)?;
        }
        self.tail.truncate(kept);
        self.dirty = true;
        self.committed(&format!("reorganisation of {} blocks above {fork_block}", reorg.old_hashes.len()))?;
        Ok(())
    }

    /// Takes the result of the job under way, if it has ended.
    async fn finish_job(&mut self) -> Result<(), Trouble> {
        let Some(UnderWay { job, task, .. }) = self.under_way.pop_front_if(|oldest| oldest.task.0.is_finished()) else {
            return Ok(());
        };
        let trouble = match task.await? {
            Ok(range) => {
                if let Job::Fetch(piece) = &job {
                    self.built.0 += range.blocks();
                    self.built.1 += range.manifest.bytes();
                    self.failures.remove(&(piece.first, piece.last));
                }
                self.check_neighbours(&range)?;
                self.ranges = self.store.ranges()?;
                self.drop_sealed_tail()?;
                self.dirty = true;
                let act = match job {
                    Job::Fetch(_) => "read",
                    Job::Seal(_) => "sealed",
                    Job::Merge(_) => "merged",
                };
                self.committed(&format!("{act} blocks {} to {}", range.first, range.last))?;
                self.publish(true)?;
                return Ok(());
            }
            Err(trouble) => trouble,
        };
        let Job::Fetch(piece) = job else { return Err(trouble) };
        let (status, reason) = match trouble {
            Trouble::Pruned(reason) => ("missing", format!("pruned history: {reason}")),
            Trouble::Bad { reason, .. } => ("failed", reason),
            other => return Err(other),
        };
        tracing::warn!(first = piece.first, last = piece.last, status, reason, "range is not held");
        let retry_at = Instant::now() + RETRY;
        self.failures.insert((piece.first, piece.last), Failure { status, reason, retry_at });
        self.dirty = true;
        Ok(())
    }

    /// A new range must link to those beside it.
    fn check_neighbours(&self, range: &crate::store::Range) -> Result<(), Trouble> {
        let below = self.ranges.iter().find(|other| other.last + 1 == range.first);
        let above = self.ranges.iter().find(|other| other.first == range.last + 1);
        let links = below.is_none_or(|below| below.manifest.last_hash == range.manifest.first_parent_hash)
            && above.is_none_or(|above| above.manifest.first_parent_hash == range.manifest.last_hash);
        if links {
            return Ok(());
        }
        self.store.quarantine_path(&range.path, "unlinked")?;
        Err(Trouble::Other(
            Refused::new(
                format!("blocks {} to {} do not link to the sealed ranges beside them; they were moved to quarantine", range.first, range.last),
                format!(
                    "the node's chain contradicts what is sealed: `spyhop rewind --data {} --to {}` moves what is above to quarantine",
                    self.store.root().display(),
                    range.first.saturating_sub(1)
                ),
            )
            .into(),
        ))
    }

    /// Starts the next job, if there is one and it need not wait for what is under way.
    fn start_job(&mut self) -> Result<bool, Trouble> {
        if !self.can_fetch() || self.stop.is_set() {
            return Ok(false);
        }
        let alone = self.under_way.is_empty();
        let known = self.known_soon();
        let job = match next_merge(&self.ranges).filter(|_| alone) {
            Some(merge) if self.has_room(merge.bytes())? => Some(Job::Merge(merge)),
            _ => known.pieces().next().map(|piece| {
                let links = self.tail.iter().filter(|link| (piece.first..=piece.last).contains(&link.number));
                if piece.in_tail { Job::Seal(links.copied().collect()) } else { Job::Fetch(piece) }
            }),
        };
        let Some(job) = job.filter(|job| alone || matches!(job, Job::Fetch(_))) else { return Ok(false) };
        if !matches!(job, Job::Merge(_)) {
            self.estimate(known.pieces())?;
            if !self.has_room(0)? {
                return Ok(false);
            }
        }
        let drained = Arc::new(AtomicBool::new(false));
        let task = AbortOnDrop(tokio::spawn(self.builder.clone().run(job.clone(), drained.clone())));
        self.under_way.push_back(UnderWay { job, task, drained });
        Ok(true)
    }

    /// Deletes what lost to other ranges or is older than what is kept, once nobody reads it any more.
    fn collect(&mut self) -> Result<()> {
        const EVERY: Duration = Duration::from_secs(60);
        // A merge under way reads ranges.
        if !self.under_way.is_empty() || self.collected_at.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(());
        }
        self.collected_at = Some(Instant::now());
        self.store.collect_losers(GRACE)?;
        let left = chunk::unpublished(&self.store, &self.chunks)?;
        self.chunks_left.retain(|path, _| left.contains(path));
        for path in left {
            if self.chunks_left.entry(path.clone()).or_insert_with(Instant::now).elapsed() > GRACE {
                self.store.delete_directory(&path)?;
            }
        }
        let Some(limit) = self.keep_limit() else { return Ok(()) };
        let gone =
            self.ranges.iter().take_while(|range| range.manifest.last_timestamp + GRACE.as_secs() < limit).count();
        if gone > 0 {
            for range in self.ranges.drain(..gone) {
                self.store.delete_directory(&range.path)?;
                self.wanted_first = range.last + 1;
            }
            self.dirty = true;
        }
        Ok(())
    }
}
