//! What the loops know: the store's ranges, the tail, the job under way; and how it is published.

use super::build::{Builder, Job, yield_to_others};
use super::fetch::{AbortOnDrop, Fetcher, Trouble};
use super::node::{Node, known_weth};
pub use super::progress::now;
use super::progress::{Heartbeat, Position, Teller};
use super::{Settings, Stop, phase};
use crate::geth::{Client, Head, Tag};
use crate::plan::Known;
use crate::publish::{Publisher, State};
use crate::rows::Options;
use crate::store::{BlockLink, Chain, Range, Store, chunk, tail};
use anyhow::{Result, bail};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a reader of an older published file may go on.
pub const GRACE: Duration = Duration::from_secs(600);

/// How long a range that is being written is waited for at the end; it is dropped then.
const DRAIN: Duration = Duration::from_secs(1);

/// How often a state is published while the tail catches up.
const PUBLISH_EVERY: Duration = Duration::from_secs(2);

/// A piece that could not be built.
#[derive(Clone, Debug)]
pub struct Failure {
    /// `failed` or `missing`.
    pub status: &'static str,
    /// Why.
    pub reason: String,
    /// When it is tried again.
    pub retry_at: Instant,
}

/// A job under way.
#[derive(Debug)]
pub struct UnderWay {
    /// What it is.
    pub job: Job,
    /// Its end.
    pub task: AbortOnDrop<Result<Range, Trouble>>,
    /// Set when it has all it needs of the node.
    pub drained: Arc<AtomicBool>,
}

/// The state of a `watch`.
#[derive(Debug)]
pub struct Session {
    pub settings: Settings,
    pub store: Arc<Store>,
    pub client: Client,
    pub chain: Chain,
    pub wanted_first: u64,
    pub builder: Builder,
    /// For the tail, at normal priority.
    pub fetcher: Fetcher,
    pub publisher: Publisher,
    pub teller: Teller,
    pub stop: Stop,
    /// Sealed ranges, ascending.
    pub ranges: Vec<Range>,
    /// The canonical tail, ascending.
    pub tail: Vec<BlockLink>,
    /// Pieces that could not be built, by first and last block.
    pub failures: BTreeMap<(u64, u64), Failure>,
    pub head: Option<Head>,
    pub finalized: Option<u64>,
    /// When the node is asked again for a finalized block after it had none.
    pub finalized_retry_at: Instant,
    /// Jobs, oldest first: one, and where that has all it needs of the node and is only being written, the one after it.
    pub under_way: VecDeque<UnderWay>,
    /// What is wrong at the head, while it is.
    pub unhealthy: Option<String>,
    /// Chunks of the tail that are published, and those that no longer are, with when that was first seen.
    pub chunks: Vec<PathBuf>,
    pub chunks_left: BTreeMap<PathBuf, Instant>,
    /// Whether there is something to publish, and when it was done last.
    pub dirty: bool,
    pub published_at: Option<Instant>,
    /// Blocks and bytes built from the node in this run, for the estimate of a long backfill.
    pub built: (u64, u64),
    /// Whether the estimate was told.
    pub estimated: bool,
    /// When losers were last looked for.
    pub collected_at: Option<Instant>,
}

impl Session {
    /// Takes up the store where it was left.
    pub async fn open(
        settings: Settings,
        store: Arc<Store>,
        client: Client,
        node: Node,
        publisher: Publisher,
        teller: Teller,
        stop: Stop,
    ) -> Result<Self, Trouble> {
        let options = Options { weth: settings.weth.or(known_weth(node.chain.identity.chain_id)) };
        let fetcher = Fetcher {
            client: client.clone(),
            store: store.clone(),
            schedule: Arc::new(node.schedule),
            options,
            pool: Arc::new(rayon::ThreadPoolBuilder::new().build()?),
            warned: Arc::new(Mutex::new(HashSet::new())),
        };
        // With `once` somebody waits for the end.
        let idle = !settings.once;
        let yielding = move |_| {
            if idle {
                yield_to_others();
            }
        };
        let build_pool = rayon::ThreadPoolBuilder::new().start_handler(yielding).build()?;
        let builder = Builder {
            fetcher: Fetcher { pool: Arc::new(build_pool), ..fetcher.clone() },
            identity: node.chain.identity,
            stop: stop.flag.clone(),
            idle,
        };
        let ranges = store.ranges()?;
        for range in &ranges {
            if range.manifest.identity != node.chain.identity {
                bail_other(format!("range `{}` is of another chain", range.path.display()))?;
            }
        }
        let mut session = Self {
            wanted_first: node.wanted_first,
            settings,
            store,
            client,
            chain: node.chain,
            builder,
            fetcher,
            publisher,
            teller,
            stop,
            ranges,
            tail: Vec::new(),
            failures: BTreeMap::new(),
            head: None,
            finalized: None,
            finalized_retry_at: Instant::now(),
            under_way: VecDeque::new(),
            unhealthy: None,
            chunks: Vec::new(),
            chunks_left: BTreeMap::new(),
            dirty: true,
            published_at: None,
            built: (0, 0),
            estimated: false,
            collected_at: None,
        };
        session.tail = session.load_tail().await?;
        // What is held stays wanted: a range is never left alone below a gap.
        let held_first =
            session.ranges.first().map(|range| range.first).or(session.tail.first().map(|link| link.number));
        if let Some(held_first) = held_first
            && (session.settings.keep_days.is_some() || held_first < session.wanted_first)
        {
            session.wanted_first = held_first;
        }
        Ok(session)
    }

    /// The tail's canonical blocks: those that link from the last sealed block upwards. Where two do, the node says which.
    async fn load_tail(&self) -> Result<Vec<BlockLink>, Trouble> {
        let sealed = self.sealed();
        let mut chain: Vec<BlockLink> = Vec::new();
        let links = tail::list(&self.store)?;
        let floor = sealed.map(|link| link.number);
        let mut candidates: BTreeMap<u64, Vec<BlockLink>> = BTreeMap::new();
        for link in &links {
            if floor.is_none_or(|floor| link.number > floor) {
                candidates.entry(link.number).or_default().push(*link);
            }
        }
        for (number, mut level) in candidates {
            let below = chain.last().copied().or(sealed.filter(|sealed| sealed.number + 1 == number));
            match below {
                Some(below) => level.retain(|link| link.number == below.number + 1 && link.parent_hash == below.hash),
                None if !chain.is_empty() => level.clear(),
                None => {}
            }
            if level.len() > 1 {
                let hash = self.client.head(Tag::Number(number)).await.map_err(Trouble::Away)?.hash;
                level.retain(|link| link.hash == hash);
            }
            let Some(link) = level.first() else { break };
            chain.push(*link);
        }
        for link in links.iter().filter(|link| !chain.contains(link)) {
            tail::remove(self.store.root(), link.number, link.hash)?;
        }
        Ok(chain)
    }

    /// The last sealed block.
    pub fn sealed(&self) -> Option<BlockLink> {
        self.ranges.last().map(|range| BlockLink {
            number: range.last,
            hash: range.manifest.last_hash,
            parent_hash: range.manifest.first_parent_hash,
            timestamp: range.manifest.last_timestamp,
        })
    }

    /// The last block held.
    pub fn tip(&self) -> Option<BlockLink> {
        self.tail.last().copied().or_else(|| self.sealed())
    }

    /// What the planner needs to know.
    pub fn known(&self) -> Known {
        let mut settled: Vec<_> = self.ranges.iter().map(|range| (range.first, range.last)).collect();
        let now = Instant::now();
        settled.extend(self.failures.iter().filter(|(_, failure)| failure.retry_at > now).map(|(key, _)| *key));
        settled.sort_unstable();
        Known {
            wanted_first: self.wanted_first,
            finalized: self.finalized,
            settled,
            tail: self.tail.first().zip(self.tail.last()).map(|(first, last)| (first.number, last.number)),
        }
    }

    /// The same, with the pieces that are being fetched taken as held.
    pub fn known_soon(&self) -> Known {
        let mut known = self.known();
        known.settled.extend(self.under_way.iter().filter_map(|under_way| match under_way.job {
            Job::Fetch(piece) => Some((piece.first, piece.last)),
            _ => None,
        }));
        known.settled.sort_unstable();
        known
    }

    /// Publishes what there is, if it is not published yet and it is time.
    pub fn publish(&mut self, now: bool) -> Result<()> {
        let due = self.published_at.is_none_or(|at| at.elapsed() >= PUBLISH_EVERY);
        if !self.dirty || !(now || due) {
            return Ok(());
        }
        let _phase = phase("publish");
        let coverage = self.coverage();
        let reorgs = self.store.reorgs()?;
        let split = chunk::split(&self.store, self.chain.identity, &self.tail)?;
        let mut ranges: Vec<_> = self.ranges[self.kept()..].iter().map(|range| range.path.clone()).collect();
        ranges.extend_from_slice(&split.chunks);
        let tail = &self.tail[split.blocks..];
        self.publisher.publish(&self.store, &State { ranges: &ranges, tail, coverage: &coverage, reorgs: &reorgs })?;
        self.chunks = split.chunks;
        self.dirty = false;
        self.published_at = Some(Instant::now());
        Ok(())
    }

    /// How many of the lowest ranges are older than what is to be kept.
    pub fn kept(&self) -> usize {
        let Some(limit) = self.keep_limit() else { return 0 };
        self.ranges.iter().take_while(|range| range.manifest.last_timestamp < limit).count()
    }

    /// The time before which blocks are not kept, in seconds since 1970.
    pub fn keep_limit(&self) -> Option<u64> {
        Some(self.head?.timestamp.saturating_sub(self.settings.keep_days? * 86_400))
    }

    /// Tells of a committed step and writes the heartbeat.
    pub fn committed(&mut self, what: &str) -> Result<()> {
        let position = self.position();
        self.teller.step(what, position);
        self.beat()
    }

    fn position(&self) -> Position {
        let head = self.head.map_or(0, |head| head.number);
        let tip = self.tip().map_or(0, |tip| tip.number);
        Position {
            first: self.wanted_first,
            tip,
            head,
            lag: head.saturating_sub(tip),
            node_lag_s: self.head.map_or(0, |head| now().saturating_sub(head.timestamp)),
        }
    }

    /// Writes the heartbeat.
    pub fn beat(&self) -> Result<()> {
        let head = self.head.map(|head| head.number);
        let tip = self.tip().map(|tip| tip.number);
        let heartbeat = Heartbeat {
            process: std::process::id(),
            time: now(),
            state: self.teller.state().to_owned(),
            head,
            finalized: self.finalized,
            tip,
            sealed: self.sealed().map(|sealed| sealed.number),
            lag_blocks: head.map(|head| head.saturating_sub(tip.unwrap_or(0))),
            node_lag_s: self.head.map(|head| now().saturating_sub(head.timestamp)),
            unhealthy: self.unhealthy.clone().or_else(|| {
                let (&(first, last), failure) = self.failures.iter().find(|(_, failure)| failure.status == "failed")?;
                Some(format!("blocks {first} to {last} failed: {}", failure.reason))
            }),
            ipc: self.settings.ipc.clone(),
            committed_at: self.teller.committed_at(),
        };
        self.store.beat(&heartbeat)
    }

    /// Whether another piece can be fetched: nothing is under way, or one piece that needs nothing more of the node.
    pub fn can_fetch(&self) -> bool {
        match self.under_way.len() {
            0 => true,
            1 => self.under_way[0].drained.load(Ordering::Relaxed),
            _ => false,
        }
    }

    /// Waits for a while, or until there is something to do about the jobs under way, or the process is to stop.
    pub async fn wait(&mut self, time: Duration) {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        let could_fetch = self.can_fetch();
        let ended = async {
            while self.under_way.front().is_none_or(|job| !job.task.0.is_finished()) && self.can_fetch() == could_fetch
            {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = self.stop.pause(time) => {}
            () = ended => {}
        }
    }

    /// Ends: the job under way finishes or is dropped, and what there is is published.
    pub async fn close(&mut self) -> Result<()> {
        self.stop.flag.store(true, Ordering::Relaxed);
        let jobs = std::mem::take(&mut self.under_way);
        // Fetching may wait for the node: what was fetched is dropped.
        for job in jobs.into_iter().filter(|job| !matches!(job.job, Job::Fetch(_))) {
            // Its thread yields to everything else on the machine, and may not even come to see that it is to stop.
            match tokio::time::timeout(DRAIN, job.task).await.unwrap_or(Ok(Err(Trouble::Stopped))) {
                Ok(Ok(_)) => {
                    self.ranges = self.store.ranges()?;
                    self.drop_sealed_tail()?;
                    self.dirty = true;
                }
                Ok(Err(Trouble::Other(error))) => return Err(error),
                _ => {}
            }
        }
        self.teller.say("stopped".to_owned());
        self.publish(true)?;
        self.beat()
    }

    /// Removes the tail's blocks that a sealed range holds.
    pub fn drop_sealed_tail(&mut self) -> Result<()> {
        let Some(sealed) = self.sealed() else { return Ok(()) };
        for link in self.tail.extract_if(.., |link| link.number <= sealed.number) {
            tail::remove(self.store.root(), link.number, link.hash)?;
        }
        Ok(())
    }

    /// An error where a block failed its check and `--once` was to see all of them through.
    pub fn verdict(&self) -> Result<()> {
        if self.settings.once
            && let Some((&(first, last), failure)) =
                self.failures.iter().find(|(_, failure)| failure.status == "failed")
        {
            bail!("blocks {first} to {last} are not held: {}", failure.reason);
        }
        Ok(())
    }
}

fn bail_other(message: String) -> Result<(), Trouble> {
    Err(Trouble::Other(anyhow::anyhow!(message)))
}
