//! One step: look at the node and the store, do the next thing, commit it.

use super::build::Job;
use super::fetch::{AbortOnDrop, FetchBatch, FetchError, Fetcher, Near, header_link};
use super::hydrate::Account;
use super::mend;
use super::phase;
use super::pressure::ANSWER_MAX;
use super::progress::{age_s, now};
use super::session::{Failure, GRACE, Merging, Session, UnderWay};
use super::space;
use crate::answers::{RankLimits, Ranking};
use crate::error::Refused;
use crate::geth::{self, At, Head, Tag};
use crate::plan::{BLOCK_MAX, Piece, Source};
use crate::rows::{Gap, Part, combine, reorgs::Reorg, tokens};
use crate::store::{BlockLink, Damaged, Finished, Manifest, Merge, Range, TailBlock, chunk, next_merge, tail};
use alloy_primitives::B256;
use anyhow::Result;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Blocks of the tail that are fetched together while it catches up.
pub(super) const TAIL_BATCH: u64 = 16;

/// No further block is added to these once they have so many bytes.
const TAIL_BYTES: u64 = 128 << 20;

/// Pieces among which one is looked for that can be started: a billion blocks.
const AHEAD_MAX: usize = 1_000_000;

/// How long a piece that failed is left alone, and a ranking.
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
    pub async fn step(&mut self) -> Result<Step, FetchError> {
        self.finish_jobs().await?;
        self.dirty |= self.labels.refresh();
        self.dirty |= self.events.refresh();
        let head = self.look_at_head().await?;
        if self.head != Some(head) {
            self.look_for_finalized(head).await?;
            if self.head.is_some() {
                self.fetcher.pace.moved();
            }
        }
        let was_anchored = self.is_anchored();
        self.head = Some(head);
        if self.is_anchored() && !was_anchored {
            self.check_sealed().await?;
            self.dirty = true;
        }
        self.look_at_freezer().await?;
        self.look_for_state().await?;
        self.mend_tail().await?;
        let followed = self.follow(head).await;
        let advanced = match &followed {
            Ok(advanced) => *advanced,
            // What is wrong at the head is logged below, and history is built all the same.
            Err(FetchError::Bad { .. } | FetchError::Doubt(_)) => false,
            Err(_) => return followed.map(|_| Step::Idle),
        };
        let (mut started, mut ranking) = (false, false);
        if !self.is_filling() {
            if let Some(damage) = self.hydration.go_on(&self.settings, &self.ranges, &self.builder).await {
                self.take_damage(damage)?;
            }
            started = self.start_jobs()?;
            ranking = self.rank().await?;
            self.collect()?;
        }
        let done = !advanced && !started && !ranking && self.under_way.is_empty() && self.merging.is_none();
        self.check_contiguity()?;
        self.publish(done)?;
        followed?;
        self.unhealthy = None;
        self.log_building();
        self.beat()?;
        if done && self.settings.ends() && self.is_complete(head) {
            if !self.settings.follows() && self.ranges.iter().all(|range| range.last < self.wanted_first) {
                let finalized = self.finalized.map_or("none yet".to_owned(), |number| number.to_string());
                tracing::warn!(
                    from = self.wanted_first,
                    finalized,
                    "nothing is read: no hundred blocks from there on are final"
                );
            }
            return Ok(Step::Done);
        }
        Ok(if advanced { Step::Advanced } else { Step::Idle })
    }

    /// Asks for the head. While the node is slow to answer or falls behind, building in the background pauses.
    pub(super) async fn look_at_head(&mut self) -> Result<Head, FetchError> {
        let client = self.client.clone();
        let mut answer = std::pin::pin!(client.head(Tag::Latest));
        let head = match tokio::time::timeout(ANSWER_MAX, &mut answer).await {
            Ok(head) => head,
            Err(_) => {
                self.pause_building(Some("the node is slow to answer".to_owned()));
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
        let behind = self.is_behind(head).await?.then(|| "the node has fallen behind".to_owned());
        self.pause_building(behind);
        Ok(head)
    }

    /// Whether the node once kept up and now has blocks to catch up with. A chain that makes no blocks has an old head too.
    async fn is_behind(&mut self, head: Head) -> Result<bool, FetchError> {
        if !age_s(head).is_some_and(|age_s| self.pressure.is_late(age_s)) {
            return Ok(false);
        }
        let syncing = self.client.syncing().await.map_err(FetchError::Away)?;
        let block = |name: &str| syncing[name].as_str().map(str::to_owned);
        Ok(block("currentBlock") != block("highestBlock"))
    }

    fn pause_building(&mut self, why: Option<String>) {
        let pauses = self.builder.pauses && why.is_some();
        if self.builder.gate.set_closed(pauses) {
            match why {
                Some(why) => tracing::info!("building pauses: {why}"),
                None => tracing::info!("building goes on"),
            }
        }
    }

    /// Whether nothing is left to be read.
    fn is_complete(&self, head: Head) -> bool {
        let known = self.known();
        known.pieces().next().is_none()
            && known.mends().next().is_none()
            && known.additions().next().is_none()
            && (!self.settings.follows() || known.tail_next() > head.number)
    }

    /// Asks which block is final; without an answer, and if there never was one, depth decides.
    pub(super) async fn look_for_finalized(&mut self, head: Head) -> Result<(), FetchError> {
        self.doubt = None;
        if Instant::now() >= self.finalized_retry_at {
            match self.client.head(Tag::Finalized).await {
                Ok(finalized) => {
                    self.doubt = self.doubt_of(finalized).await?;
                    if self.doubt.is_none() {
                        if !self.chain.finalized_seen {
                            self.chain.finalized_seen = true;
                            self.store.set_chain(&self.chain)?;
                            self.finalized = None;
                        }
                        self.finalized = self.finalized.max(Some(finalized.number));
                    }
                }
                Err(error) if error.is_missing() => self.finalized_retry_at = Instant::now() + FINALIZED_RETRY,
                Err(error) => return Err(FetchError::Away(error)),
            }
        }
        if !self.chain.finalized_seen {
            // By its number alone nothing becomes final: it is at least to be there.
            let unproved = self.tip().is_none_or(|tip| head.number > tip.number);
            if unproved && self.hash_at(head.number).await?.is_none() {
                self.doubt =
                    Some(format!("the node's head is said to be block {}, which it does not have", head.number));
            } else {
                self.finalized = head.number.checked_sub(self.settings.finality_depth);
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
            return Ok(Some(format!("the node says that block {number} is final, and its head is {}", head.number)));
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

    /// Makes sure that the node's chain is the one that is sealed.
    async fn check_sealed(&mut self) -> Result<(), FetchError> {
        let head = self.head.map_or(0, |head| head.number);
        let Some(range) = self.ranges.iter().rev().find(|range| range.last <= head) else { return Ok(()) };
        let hash = self.client.head(Tag::Number(range.last)).await.map_err(FetchError::Away)?.hash;
        if hash == range.manifest.last_hash { Ok(()) } else { Err(self.contradiction(range.last, hash).await?) }
    }

    /// The error for a chain that contradicts a sealed range, naming the block to go back to.
    async fn contradiction(&self, number: u64, hash: B256) -> Result<FetchError, FetchError> {
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
        Ok(FetchError::Other(
            Refused::new(
                format!("the node's chain contradicts what is sealed: it has {hash} at or above block {number}; nothing was touched"),
                hint,
            )
            .into(),
        ))
    }

    /// Brings the tail nearer to the node's head. Says whether anything was done.
    pub(super) async fn follow(&mut self, head: Head) -> Result<bool, FetchError> {
        let hole = if self.taken_up && self.loose.is_empty() { None } else { self.take_up_tail().await? };
        if !self.is_anchored() || !(self.settings.follows() || hole.is_some()) {
            return Ok(false);
        }
        if let Some(tip) = self.tip().filter(|tip| self.is_next(tip.number + 1)) {
            if head.number < tip.number {
                // After an unclean stop geth comes back some blocks lower: that is no reorganisation while the hashes agree.
                let ours = self.tail.iter().find(|link| link.number == head.number);
                if ours.is_some_and(|ours| ours.hash != head.hash) {
                    return self.reorganise(tip, head).await.map(|()| true);
                }
                self.reporter.log_state(format!(
                    "waiting: the node's head went back to {}, {} is held",
                    head.number, tip.number
                ));
                return Ok(false);
            }
            let hash = match head.number - tip.number {
                0 => head.hash,
                1 => head.parent_hash,
                _ => self.client.head(Tag::Number(tip.number)).await.map_err(FetchError::Away)?.hash,
            };
            if hash != tip.hash {
                return self.reorganise(tip, head).await.map(|()| true);
            }
        }
        if let Some((first, last)) = hole {
            if head.number < last || !self.has_room(0)? {
                return Ok(false);
            }
            self.reporter.log_state(format!("blocks {first} to {last} of the tail are missing, and are fetched again"));
            return match self.extend(first, last.min(first + TAIL_BATCH - 1)).await {
                Err(trouble @ FetchError::Pruned(_)) => self.leave_hole((first, last), trouble).map(|()| true),
                extended => extended,
            };
        }
        let known = self.known();
        let next = known.tail_next();
        if head.number < next && self.tip().is_none() {
            self.reporter.log_state(format!(
                "waiting: the node's head is block {}, and the first wanted is {next}",
                head.number
            ));
        }
        if head.number < next || known.tail_waits() || !self.has_room(0)? {
            return Ok(false);
        }
        self.extend(next, head.number.min(next + TAIL_BATCH - 1)).await
    }

    /// Whether a block of this height would be the tail's next.
    fn is_next(&self, number: u64) -> bool {
        self.known().tail_next() == number
    }

    /// Adds blocks to the tail.
    async fn extend(&mut self, first: u64, last: u64) -> Result<bool, FetchError> {
        let hydrated: Vec<_> = (0..=last - first).map(|index| self.hydration.of_block(index as usize)).collect();
        let mut wanted = (first..=last).zip(&hydrated);
        let mut under_way = VecDeque::new();
        let mut below = self.tip().filter(|tip| tip.number + 1 == first);
        let mut blocks = Vec::new();
        let mut stray = None;
        let mut bytes = 0;
        loop {
            // What was asked for ahead of its turn is dropped where those before it are large enough by themselves.
            let more = if bytes < TAIL_BYTES { self.ahead.get() } else { 0 };
            under_way.extend(wanted.by_ref().take(more.saturating_sub(under_way.len())).map(|(number, hydrated)| {
                let fetcher = Fetcher { hydrated: hydrated.clone(), ..self.fetcher.clone() };
                AbortOnDrop(tokio::spawn(async move { fetcher.fetch(number, number, Near::Head).await }))
            }));
            let Some(request) = under_way.pop_front().filter(|_| bytes < TAIL_BYTES) else { break };
            let batch = request.await??;
            self.ahead.note(batch.weight());
            bytes += batch.weight();
            let link = batch.links[0];
            if below.is_some_and(|below| below.hash != link.parent_hash) {
                stray = Some(link);
                break;
            }
            below = Some(link);
            let FetchBatch { parts, gaps, .. } = batch;
            let batches = parts.into_iter().map(Part::rows).collect::<Result<_>>()?;
            blocks.push(TailBlock { link, tables: self.settings.tables, batches, gaps });
        }
        drop(under_way);
        if let (true, Some(stray)) = (blocks.is_empty(), stray) {
            self.explain(stray).await?;
            // The next step sees the reorganisation.
            return Ok(false);
        }
        {
            let _phase = phase("tail");
            tail::write(&self.store, &blocks)?;
        }
        self.take_in(&blocks, &hydrated)?;
        self.tail.extend(blocks.iter().map(|block| block.link));
        blocks.iter().flat_map(|block| &block.gaps).for_each(|gap| Gap::push(&mut self.tail_gaps, gap.clone()));
        self.dirty = true;
        let what = match &blocks[..] {
            [block] => format!("block {}", block.link.number),
            blocks => format!("blocks {first} to {}", first + blocks.len() as u64 - 1),
        };
        self.committed(&what)?;
        Ok(true)
    }

    /// Notes what need not be asked of the node again now that these blocks are written.
    fn take_in(&mut self, blocks: &[TailBlock], hydrated: &[Arc<[Account]>]) -> Result<()> {
        for (block, hydrated) in blocks.iter().zip(hydrated) {
            self.hydration.take_in(block, hydrated.clone())?;
            if let Some(tokens) = block.batch(&tokens::TABLE) {
                let tokens = combine::read(tokens)?;
                self.fetcher.known.lock().expect("nothing panics while holding it").take_in(&tokens);
            }
        }
        Ok(())
    }

    /// The node's next block does not link to our tip: either its chain changed, which the next step sees, or the block is bad.
    async fn explain(&self, stray: BlockLink) -> Result<(), FetchError> {
        let Some(tip) = self.tip() else { return Ok(()) };
        let node = self.client.head(Tag::Number(tip.number)).await.map_err(FetchError::Away)?;
        if node.hash != tip.hash {
            return Ok(());
        }
        let BlockLink { number, parent_hash, .. } = stray;
        let reason = format!("block {number}: parent hash: expected {}, found {parent_hash}", tip.hash);
        Err(self.fetcher.quarantine(number, reason).await?)
    }

    /// Goes back to the block that the node's chain and ours share.
    async fn reorganise(&mut self, tip: BlockLink, head: Head) -> Result<(), FetchError> {
        let floor = self.tail.first().map_or(tip.number + 1, |link| link.number);
        let mut new_hashes = Vec::new();
        let mut number = tip.number.min(head.number);
        let (fork_block, fork_hash) = loop {
            let node = self.client.head(Tag::Number(number)).await.map_err(FetchError::Away)?;
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
                self.client.check_chain().await.map_err(FetchError::Away)?;
                return Err(FetchError::Doubt("the node's block 0 changed".to_owned()));
            };
            number = below;
        };
        let Some(first) = new_hashes.last() else {
            let (Head { number, hash, parent_hash, .. }, node) = (head, fork_hash);
            return Err(FetchError::Doubt(format!(
                "the node's head is said to be block {number}, {hash}, on {parent_hash}, and block {fork_block} of its chain is {node}"
            )));
        };
        self.check_branch(fork_block, fork_hash, *first).await?;
        if fork_block < floor {
            // None of it is left: perhaps because it is another chain.
            self.client.check_chain().await.map_err(FetchError::Away)?;
        }
        new_hashes.reverse();
        self.take_back(fork_block, fork_hash, new_hashes)
    }

    /// Makes sure that the node has the first block of another branch, before ours is given up for it.
    async fn check_branch(&self, fork_block: u64, fork_hash: B256, hash: B256) -> Result<(), FetchError> {
        let number = fork_block + 1;
        let doubt =
            |why: String| FetchError::Doubt(format!("block {number} of the node's chain is said to be {hash}: {why}"));
        let raw = match self.client.raw_block(At::Hash(hash)).await {
            Ok(raw) => raw,
            Err(error) if error.is_missing() => return Err(doubt("it does not have that".to_owned())),
            Err(error) => return Err(FetchError::Away(error)),
        };
        match header_link(&raw) {
            Some((found, _)) if found != hash => Err(doubt(format!("what it gives is {found}"))),
            Some((_, parent)) if parent == fork_hash => Ok(()),
            Some((_, parent)) => Err(doubt(format!("that is on {parent}, not on {fork_hash}"))),
            None => Err(doubt("what it gives is no block".to_owned())),
        }
    }

    /// Drops the tail above a block, for others.
    fn take_back(&mut self, fork_block: u64, fork_hash: B256, new_hashes: Vec<B256>) -> Result<(), FetchError> {
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
        self.trim_tail_gaps();
        self.hydration.take_back(&reorg.old_hashes);
        self.fetcher.known.lock().expect("nothing panics while holding it").forget();
        self.dirty = true;
        self.committed(&format!("reorganisation of {} blocks above {fork_block}", reorg.old_hashes.len()))?;
        Ok(())
    }

    /// Takes in a ranking of holders that was made, and starts to make the next where it is time to. Says whether one is being made.
    async fn rank(&mut self) -> Result<bool, FetchError> {
        if let Some(ranking) = self.ranking_under_way.take_if(|ranking| ranking.0.is_finished()) {
            match ranking.await? {
                Ok(Some(ranking)) => {
                    self.ranking = Some(ranking);
                    self.dirty = true;
                }
                Ok(None) | Err(FetchError::Stopped) => {}
                Err(FetchError::Other(error)) if error.is::<Damaged>() => self.take_damage(error)?,
                Err(FetchError::Other(error)) if !space::is_disk_full(&error) => {
                    tracing::warn!("holders are not ranked: {error:#}; `spyhop verify` tells what is wrong");
                    self.ranking_retry_at = Some(Instant::now() + RETRY);
                }
                Err(trouble) => return Err(trouble),
            }
        }
        let ranges = &self.ranges[self.kept()..];
        let building = !self.under_way.is_empty() || self.merging.is_some();
        if self.ranking_under_way.is_none()
            && self.ranking_retry_at.is_none_or(|at| Instant::now() >= at)
            && Ranking::is_due(self.ranking.as_ref(), ranges, building)
            && self.has_room(0)?
        {
            let ranges = self.ranges[self.kept()..].to_vec();
            let made = self.builder.on_thread(move |builder| {
                let _phase = phase("ranking");
                Ranking::make(&builder.fetcher.store, &ranges, RankLimits::default(), &|| builder.stopped())
            });
            self.ranking_under_way = Some(AbortOnDrop(tokio::spawn(async move { Ok(made.await??) })));
        }
        Ok(self.ranking_under_way.is_some())
    }

    /// Takes in the results of jobs that have ended.
    async fn finish_jobs(&mut self) -> Result<(), FetchError> {
        if let Some(Merging { blocks, task }) = self.merging.take_if(|merging| merging.task.0.is_finished()) {
            match task.await? {
                Ok(range) => {
                    self.unmerged.remove(&blocks);
                    self.add_range(range);
                    self.dirty = true;
                    self.committed(&format!("merged blocks {} to {}", blocks.0, blocks.1))?;
                    self.publish(self.settings.follows())?;
                }
                Err(FetchError::Other(error)) if error.is::<Damaged>() => self.take_damage(error)?,
                Err(FetchError::Other(error)) if !space::is_disk_full(&error) => self.note_unmerged(blocks, &error),
                Err(trouble) => return Err(trouble),
            }
        }
        while let Some(index) = self.ended() {
            let UnderWay { job, task, .. } = self.under_way.remove(index);
            match task.await? {
                Ok(finished) => self.commit(&job, finished)?,
                Err(FetchError::Freezer(reason)) => {
                    let Piece { first, last, .. } = job.piece;
                    tracing::warn!(
                        first,
                        last,
                        reason = reason.as_str(),
                        "the freezer failed, these blocks come from the node"
                    );
                    self.freezer_failures.insert(first, reason);
                    let piece = Piece { source: Source::Node, ..job.piece };
                    // In its old place, so that nothing overtakes it.
                    self.start(index, Job { piece, ..job });
                }
                Err(trouble) => self.note_failure(job.piece, trouble)?,
            }
        }
        Ok(())
    }

    /// Puts a range that was built in its place.
    fn commit(&mut self, job: &Job, finished: Finished) -> Result<(), FetchError> {
        self.check_neighbours(finished.manifest())?;
        let range = {
            let _phase = phase("range");
            finished.commit(&self.store)?
        };
        if job.piece.source != Source::Tail {
            self.built.0 += range.blocks();
            self.built.1 += range.manifest.bytes();
        }
        let act = match (&job.adds_to, job.piece.source) {
            _ if job.mends.is_some() => "mended",
            (Some(_), _) => "completed",
            (None, Source::Tail) => "sealed",
            (None, Source::Freezer | Source::Node) => "read",
        };
        let what = format!("{act} blocks {} to {}", range.first, range.last);
        let (last, last_hash) = (range.last, range.manifest.last_hash);
        self.add_range(range);
        self.drop_sealed_tail()?;
        if self.tail.first().is_some_and(|link| link.number == last + 1 && link.parent_hash != last_hash) {
            // What is final decides.
            self.take_back(last, last_hash, Vec::new())?;
        }
        self.dirty = true;
        self.committed(&what)?;
        self.publish(self.settings.follows())?;
        Ok(())
    }

    /// Notes why a piece is not held, to be tried again later; what is no fault of the piece is returned.
    pub(super) fn note_failure(&mut self, piece: Piece, trouble: FetchError) -> Result<(), FetchError> {
        let (status, reason) = match trouble {
            // Once more out of the files, next time: somebody may have mended them.
            FetchError::Pruned(reason) => match self.freezer_failures.remove(&piece.first) {
                Some(why) => ("missing", format!("pruned history: {reason}; the files have it not: {why}")),
                None => ("missing", format!("pruned history: {reason}")),
            },
            FetchError::Bad { reason, .. } => ("failed", reason),
            FetchError::Other(error) if error.is::<Damaged>() => return Ok(self.take_damage(error)?),
            // The volume failed it, or a bug: that costs this piece.
            FetchError::Other(error) if !space::is_disk_full(&error) && error.downcast_ref::<Refused>().is_none() => {
                ("failed", format!("{error:#}"))
            }
            other => return Err(other),
        };
        tracing::warn!(first = piece.first, last = piece.last, status, reason, "range is not held");
        let retry_at = Instant::now() + RETRY;
        self.failures.insert((piece.first, piece.last), Failure { status, reason, retry_at });
        self.dirty = true;
        Ok(())
    }

    /// Notes that a merge failed, to be tried again later: its sources are there and stay.
    pub(super) fn note_unmerged(&mut self, (first, last): (u64, u64), error: &anyhow::Error) {
        let reason = format!("{error:#}");
        tracing::warn!(first, last, reason, "ranges are not merged, which is tried again later");
        let retry_at = Instant::now() + RETRY;
        self.unmerged.insert((first, last), Failure { status: "failed", reason, retry_at });
    }

    /// The next merge that has not failed just now.
    fn next_merge(&self) -> Option<Merge> {
        let now = Instant::now();
        let resting: Vec<_> = self.unmerged.iter().filter(|(_, failure)| failure.retry_at > now).collect();
        let rests =
            |range: &&Range| resting.iter().any(|((first, last), _)| *first <= range.first && range.last <= *last);
        let ranges: Vec<_> = self.ranges.iter().filter(|range| !rests(range)).cloned().collect();
        next_merge(&ranges, self.settings.tables)
    }

    /// A new range must link to those beside it before it is put in its place.
    fn check_neighbours(&self, new: &Manifest) -> Result<(), FetchError> {
        let below = self.ranges.iter().find(|other| other.last + 1 == new.first);
        let above = self.ranges.iter().find(|other| other.first == new.last + 1);
        let links = below.is_none_or(|below| below.manifest.last_hash == new.first_parent_hash)
            && above.is_none_or(|above| above.manifest.first_parent_hash == new.last_hash);
        if links {
            return Ok(());
        }
        let (first, last, data) = (new.first, new.last, self.store.root().display());
        Err(FetchError::Other(
            Refused::new(
                format!("blocks {first} to {last} do not link to those that are stored beside them; nothing was touched"),
                format!(
                    "the node's chain contradicts what is stored: is this the right node? if it is, `spyhop rewind --data {data} --to {}` moves what is above to quarantine",
                    first.saturating_sub(1)
                ),
            )
            .into(),
        ))
    }

    /// Starts what can be started. Says whether anything was.
    fn start_jobs(&mut self) -> Result<bool, FetchError> {
        if self.stop.is_set() {
            return Ok(false);
        }
        let mut started = false;
        if self.merging.is_none()
            && let Some(merge) = self.next_merge()
            && self.has_room(merge.bytes())?
        {
            let blocks = merge.blocks();
            let task = AbortOnDrop(tokio::spawn(self.builder.clone().merge(merge)));
            self.merging = Some(Merging { blocks, task });
            started = true;
        }
        while let Some(piece) = self.next_piece()? {
            let job = self.job(piece);
            self.start(self.under_way.len(), job);
            started = true;
        }
        Ok(started)
    }

    /// What is to be done for a piece.
    fn job(&self, piece: Piece) -> Job {
        let mut job = Job {
            piece,
            tables: self.settings.tables,
            links: Vec::new(),
            adds_to: None,
            mends: self.mend_of(piece).cloned(),
            replaces: None,
        };
        let held = self.ranges.iter().find(|range| range.first == piece.first && range.last == piece.last);
        if let Some(mend) = &job.mends {
            job.tables = job.tables.with(mend.tables);
        } else if let Some(range) = held {
            job.tables = job.tables.with(range.tables());
            if self.is_to_be_asked(range) {
                job.replaces = Some(range.clone());
                job.adds_to = mend::without_state(range);
            } else {
                job.adds_to = Some(range.clone());
            }
        } else {
            let links = self.tail.iter().filter(|link| (piece.first..=piece.last).contains(&link.number));
            job.links = links.copied().collect();
        }
        job
    }

    /// The next piece that a worker is free for. What comes from the node or the tail keeps every core busy by itself, so there is
    /// one of those at a time, and the one after it while it is only being written.
    fn next_piece(&mut self) -> Result<Option<Piece>, FetchError> {
        // One that is only being written needs no worker's core.
        let working = self.under_way.iter().filter(|under_way| !under_way.drained.load(Ordering::Relaxed));
        if working.count() >= self.settings.workers {
            return Ok(None);
        }
        let others = self.under_way.iter().filter(|under_way| under_way.job.piece.source != Source::Freezer);
        let busy = others.clone().count() > 1 || others.clone().any(|other| !other.drained.load(Ordering::Relaxed));
        let known = self.known();
        let is_traced = self.is_traced();
        let (first, then) = if known.mends_first() { (Some(known.mends()), None) } else { (None, Some(known.mends())) };
        let [first, then] = [first, then].map(|mends| mends.into_iter().flatten());
        let pieces = first.chain(known.pieces().take(AHEAD_MAX)).chain(then).chain(known.additions());
        let mut pieces = pieces.map(|piece| match piece.source {
            Source::Freezer if self.freezer_failures.contains_key(&piece.first) || is_traced => {
                Piece { source: Source::Node, ..piece }
            }
            _ => piece,
        });
        let from_node = self.is_anchored() && !busy;
        let startable = |piece: &Piece| piece.source == Source::Freezer || from_node;
        // Where they are put in their places in order, none is started before those ahead of it.
        let piece = match self.settings.follows() {
            true => pieces.next().filter(startable),
            false => pieces.find(startable),
        };
        drop(pieces);
        let Some(piece) = piece else { return Ok(None) };
        self.estimate(known.blocks_left())?;
        Ok(self.has_room(0)?.then_some(piece))
    }

    fn start(&mut self, index: usize, job: Job) {
        let drained = Arc::new(AtomicBool::new(false));
        let task = AbortOnDrop(tokio::spawn(self.builder.clone().build(job.clone(), drained.clone())));
        self.under_way.insert(index, UnderWay { job, task, drained });
    }

    /// Deletes what lost to other ranges or is older than what is kept, once nobody reads it any more.
    fn collect(&mut self) -> Result<()> {
        const EVERY: Duration = Duration::from_secs(60);
        // What is under way reads ranges.
        if self.merging.is_some()
            || self.ranking_under_way.is_some()
            || self.under_way.iter().any(|under_way| under_way.job.adds_to.is_some())
            || self.collected_at.is_some_and(|at| at.elapsed() < EVERY)
        {
            return Ok(());
        }
        self.collected_at = Some(Instant::now());
        self.store.collect_losers(GRACE)?;
        if let Some(ranking) = &self.ranking {
            ranking.collect_others(&self.store, GRACE)?;
        }
        let left = chunk::unpublished(&self.store, &self.chunks)?;
        self.chunks_left.retain(|path, _| left.contains(path));
        for path in left {
            if self.chunks_left.entry(path.clone()).or_insert_with(Instant::now).elapsed() > GRACE {
                self.store.delete_directory(&path)?;
            }
        }
        let Some(limit) = self.keep_limit() else { return Ok(()) };
        let gone = self
            .ranges
            .iter()
            .take_while(|range| range.manifest.last_timestamp.saturating_add(GRACE.as_secs()) < limit)
            .count();
        if gone > 0 {
            for range in self.ranges.drain(..gone) {
                self.store.delete_directory(&range.path)?;
                self.wanted_first = range.last + 1;
            }
            self.mends.retain(|mend| mend.first >= self.wanted_first);
            // What was asked once may have been written there.
            self.fetcher.known.lock().expect("nothing panics while holding it").forget();
            self.dirty = true;
        }
        Ok(())
    }
}
