//! What the loops know: the store's ranges, the tail, the jobs under way; and how it is published.

use super::build::{Builder, Job, lower_priority};
use super::fetch::{AbortOnDrop, Ahead, FetchError, Fetcher};
use super::follow::TAIL_BATCH;
use super::freezer::FreezerLookup;
use super::hydrate::Hydration;
use super::mend::{self, Mend};
use super::meter::Meter;
use super::node::Node;
use super::pressure::{Gate, Pressure};
use super::progress::{Building, Heartbeat, Position, Rates, Reporter, age_s, now};
use super::{Settings, Stop, Task, Traces, phase};
use crate::answers::{Labels, Ranking};
use crate::decode::Allocation;
use crate::error::{Failed, Refused};
use crate::events::Events;
use crate::freezer::Places;
use crate::geth::{Client, Head};
use crate::plan::{Known, Piece};
use crate::publish::{Contents, Directory, Publisher};
use crate::rows::{Gap, Options, Selection};
use crate::store::{BlockLink, Chain, Finished, RANGE_MIN, Range, Store, chunk, tail};
use anyhow::Result;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long a reader of an older published file may go on.
pub const GRACE: Duration = Duration::from_secs(600);

/// How long a range that is being written is waited for at the end; it is dropped then.
const DRAIN: Duration = Duration::from_secs(1);

/// How often a state is published while the tail catches up.
const PUBLISH_EVERY: Duration = Duration::from_secs(2);

/// How often a state is published while history is built at full speed: each takes some of that speed.
const PUBLISH_BACKFILL_EVERY: Duration = Duration::from_secs(30);

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

/// A range that is being built.
#[derive(Debug)]
pub struct UnderWay {
    /// What it is.
    pub job: Job,
    /// Its end.
    pub task: AbortOnDrop<Result<Finished, FetchError>>,
    /// Set when it has all it needs of the node.
    pub drained: Arc<AtomicBool>,
}

/// A merge that is being made.
#[derive(Debug)]
pub struct Merging {
    /// First and last block.
    pub blocks: (u64, u64),
    /// Its end.
    pub task: AbortOnDrop<Result<Range, FetchError>>,
}

/// The state of a `watch` or a `backfill`.
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
    pub labels: Labels,
    pub events: Events,
    pub reporter: Reporter,
    pub stop: Stop,
    /// Sealed ranges, ascending.
    pub ranges: Vec<Range>,
    /// Those that are damaged and in quarantine, to be built again.
    pub mends: Vec<Mend>,
    /// The canonical tail, ascending.
    pub tail: Vec<BlockLink>,
    /// Which tables have not all rows of it.
    pub tail_gaps: Vec<Gap>,
    /// Files of the tail, ascending, that are not yet taken up, with what they lack.
    pub loose: Vec<(BlockLink, Vec<Gap>)>,
    /// Whether they were looked at, and the hole below the lowest of them.
    pub taken_up: bool,
    pub hole: Option<(u64, u64)>,
    /// A block of it whose file is damaged, to be fetched again.
    pub tail_lost: Option<BlockLink>,
    /// Pieces that could not be built, by first and last block.
    pub failures: BTreeMap<(u64, u64), Failure>,
    pub head: Option<Head>,
    pub finalized: Option<u64>,
    /// When the node is asked again for a finalized block after it had none.
    pub finalized_retry_at: Instant,
    /// Ranges that are being built, in the order they were planned in.
    pub under_way: Vec<UnderWay>,
    /// The merge that is being made.
    pub merging: Option<Merging>,
    /// Merges that failed, by first and last block.
    pub unmerged: BTreeMap<(u64, u64), Failure>,
    pub freezer: FreezerLookup,
    /// First blocks of pieces that the freezer or an era file did not give, and why: they come from the node.
    pub freezer_failures: BTreeMap<u64, String>,
    pub pressure: Pressure,
    pub rates: Rates,
    /// What is wrong at the head, while it is.
    pub unhealthy: Option<String>,
    /// Why the node is not believed which block is final.
    pub doubt: Option<String>,
    /// Chunks of the tail that are published, and those that no longer are, with when that was first seen.
    pub chunks: Vec<PathBuf>,
    pub chunks_left: BTreeMap<PathBuf, Instant>,
    /// Whether there is something to publish, and when it was done last.
    pub dirty: bool,
    pub published_at: Option<Instant>,
    /// From which block on the node serves state, where it tells, and when it was asked.
    pub oldest_state: Option<u64>,
    pub state_asked_at: Option<Instant>,
    /// Why it could not be published, and when that was tried last.
    pub unpublished: Option<(String, Instant)>,
    /// Blocks and bytes of the sealed ranges at the start and of those built since, for the estimate of a long backfill.
    pub built: (u64, u64),
    /// Whether the estimate was told.
    pub estimated: bool,
    /// Who has most in the sealed ranges, and the next ranking being made.
    pub ranking: Option<Ranking>,
    pub ranking_under_way: Option<AbortOnDrop<Result<Option<Ranking>, FetchError>>>,
    /// When that is tried again after it failed.
    pub ranking_retry_at: Option<Instant>,
    /// When losers were last looked for.
    pub collected_at: Option<Instant>,
    pub hydration: Hydration,
    /// How many blocks of the tail are asked for ahead.
    pub ahead: Ahead,
}

impl Session {
    /// Takes up the store where it was left.
    pub async fn open(
        settings: Settings,
        store: Arc<Store>,
        client: Client,
        node: Node,
        publisher: Publisher,
        reporter: Reporter,
        stop: Stop,
    ) -> Result<Self, FetchError> {
        if let Task::Backfill { last: Some(last) } = settings.task
            && last < node.wanted_first
        {
            let range = format!("blocks {} to {last} are none", node.wanted_first);
            return Err(FetchError::Other(Refused::new(range, "give a `--to` that is not below `--from`").into()));
        }
        let weth = node.chain.weth;
        let options = Options { weth, issuance: node.issuance, tables: settings.tables };
        let labels = Labels::open(node.chain.identity.chain_id, weth, settings.labels.clone())?;
        let events = Events::open(settings.abi.clone())?;
        let genesis = allocation(&client, &node.chain).await?.map(Arc::new);
        let fetcher = Fetcher {
            client: client.clone(),
            store: store.clone(),
            schedule: Arc::new(node.schedule),
            options,
            traces: settings.traces,
            pace: Arc::default(),
            tracing: Arc::new(Semaphore::new(1)),
            known: Arc::default(),
            hydrated: Arc::default(),
            genesis,
            pool: pool(rayon::ThreadPoolBuilder::new())?,
            warned: Arc::new(Mutex::new(HashSet::new())),
        };
        let build_pool = rayon::ThreadPoolBuilder::new().num_threads(settings.workers);
        // Where it ends by itself somebody waits for the end.
        let pauses = !settings.ends();
        let build_pool = pool(build_pool.start_handler(move |_| lower_priority(pauses)))?;
        let builder = Builder {
            fetcher: Fetcher { pool: build_pool, ..fetcher.clone() },
            identity: node.chain.identity,
            history: Places::default(),
            anchored: false,
            pauses,
            gate: Arc::new(Gate::default()),
            meter: Arc::new(Meter::default()),
            stop: stop.flag.clone(),
        };
        let (ranges, mends) = mend::open(&store, node.chain.identity)?;
        // What a block takes is known from those that are held.
        let built = ranges.iter().fold((0, 0), |sum, range| (sum.0 + range.blocks(), sum.1 + range.manifest.bytes()));
        let mut session = Self {
            wanted_first: node.wanted_first,
            freezer: node.freezer,
            settings,
            store,
            client,
            chain: node.chain,
            builder,
            fetcher,
            publisher,
            labels,
            events,
            reporter,
            stop,
            ranges,
            mends,
            tail: Vec::new(),
            tail_gaps: Vec::new(),
            loose: Vec::new(),
            taken_up: false,
            hole: None,
            tail_lost: None,
            failures: BTreeMap::new(),
            head: None,
            finalized: None,
            finalized_retry_at: Instant::now(),
            under_way: Vec::new(),
            merging: None,
            unmerged: BTreeMap::new(),
            freezer_failures: BTreeMap::new(),
            pressure: Pressure::default(),
            rates: Rates::new(),
            unhealthy: None,
            doubt: None,
            chunks: Vec::new(),
            chunks_left: BTreeMap::new(),
            dirty: true,
            published_at: None,
            unpublished: None,
            oldest_state: None,
            state_asked_at: None,
            built,
            estimated: false,
            ranking: None,
            ranking_under_way: None,
            ranking_retry_at: None,
            collected_at: None,
            hydration: Hydration::default(),
            ahead: Ahead::up_to(TAIL_BATCH as usize),
        };
        session.ranking = Ranking::newest(&session.store, &session.ranges)?;
        session.load_tail()?;
        if session.settings.follows() {
            session.want_what_is_held();
        }
        Ok(session)
    }

    /// What is held up to the tip stays wanted: that run of blocks never gets a gap above it. What was lost of it since the last
    /// heartbeat is wanted too.
    fn want_what_is_held(&mut self) {
        let tail_first = self.loose.first().map(|(link, _)| link.number / RANGE_MIN * RANGE_MIN);
        let mut held_first = tail_first.or(self.ranges.last().map(|range| range.last + 1));
        for range in self.ranges.iter().rev() {
            if held_first == Some(range.last + 1) {
                held_first = Some(range.first);
            }
        }
        if self.settings.keep_days.is_some() {
            // What is older was dropped.
            held_first = self.ranges.first().map(|range| range.first).or(tail_first);
        } else if let Some(run_first) = self.reporter.run_first_before() {
            held_first = held_first.map(|held_first| held_first.min(run_first / RANGE_MIN * RANGE_MIN));
        }
        if let Some(held_first) = held_first
            && (self.settings.keep_days.is_some() || held_first < self.wanted_first)
        {
            self.wanted_first = held_first;
        }
    }

    /// Reads which blocks the tail has files of, and removes those that are sealed.
    fn load_tail(&mut self) -> Result<()> {
        let floor = self.sealed().map(|link| link.number);
        for (link, gaps) in tail::list(&self.store, self.settings.tables)? {
            match floor {
                Some(floor) if link.number <= floor => tail::remove(self.store.root(), link.number, link.hash)?,
                _ => self.loose.push((link, gaps)),
            }
        }
        Ok(())
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
        let now = Instant::now();
        let failed = |key| self.failures.get(&key).is_some_and(|failure| failure.retry_at > now);
        let mut settled: Vec<_> = self.ranges.iter().map(|range| (range.first, range.last)).collect();
        settled.extend(self.failures.keys().copied().filter(|key| failed(*key)));
        let damaged: Vec<_> = self.wanted_mends().map(|mend| (mend.first, mend.last)).collect();
        settled.extend(&damaged);
        settled.sort_unstable();
        settled.dedup();
        let wanted_last = self.wanted_last();
        let lacking = self.ranges.iter().filter(|range| {
            (!range.tables().covers(self.settings.tables) || self.is_to_be_asked(range))
                && range.first >= self.wanted_first
                && wanted_last.is_none_or(|last| range.last <= last)
                && !failed((range.first, range.last))
        });
        Known {
            wanted_first: self.wanted_first,
            wanted_last,
            finalized: if self.is_anchored() {
                self.finalized
            } else {
                self.in_freezer().last().map(|(_, last)| *last)
            },
            in_freezer: self.in_freezer(),
            damaged: damaged.into_iter().filter(|key| !failed(*key)).collect(),
            lacking: lacking.map(|range| (range.first, range.last)).collect(),
            settled,
            under_way: self.under_way.iter().map(|under_way| under_way.job.piece).collect(),
            tail: self.tail.first().zip(self.tail.last()).map(|(first, last)| (first.number, last.number)),
            order: self.settings.order,
        }
    }

    /// The last block wanted, where not all are.
    pub fn wanted_last(&self) -> Option<u64> {
        match self.settings.task {
            Task::Backfill { last } => last,
            Task::Follow { .. } => None,
        }
    }

    /// Publishes what there is, if it is not published yet and it is time.
    pub fn try_publish(&mut self, now: bool) -> Result<()> {
        let every = if self.settings.follows() { PUBLISH_EVERY } else { PUBLISH_BACKFILL_EVERY };
        let due = self.published_at.is_none_or(|at| at.elapsed() >= every);
        if !self.dirty || !(now || due) || self.is_filling() {
            return Ok(());
        }
        let _phase = phase("publish");
        if let Some(ranking) = &self.ranking
            && !ranking.is_sound(&self.store)?
        {
            self.ranking = None;
        }
        let reorgs = self.store.reorgs()?;
        let mut coverage = self.coverage();
        coverage.extend(self.lost_reorgs(coverage.iter())?);
        let tables = self.settings.tables;
        let tail = &self.tail[..self.whole_tail()];
        let split = chunk::split(&self.store, self.chain.identity, tail, tables)?;
        let kept = self.ranges[self.kept()..].iter();
        let sealed = kept.map(|range| Directory {
            path: range.path.clone(),
            tables: range.tables(),
            older: range.manifest.older(),
            first: range.first,
            last: range.last,
            last_timestamp: range.manifest.last_timestamp,
        });
        let (chunked, tail) = tail.split_at(split.blocks);
        let chunks = split.chunks.iter().zip(chunked.chunks(RANGE_MIN as usize)).map(|(path, links)| Directory {
            path: path.clone(),
            tables,
            older: Selection::of_known([]),
            first: links[0].number,
            last: links[links.len() - 1].number,
            last_timestamp: links[links.len() - 1].timestamp,
        });
        let ranges: Vec<_> = sealed.chain(chunks).collect();
        let (labels, events) = (&self.labels, &self.events);
        let ranking = self.ranking.as_ref();
        let state =
            Contents { ranges: &ranges, tail, tables, coverage: &coverage, reorgs: &reorgs, labels, events, ranking };
        self.publisher.publish(&self.store, &state)?;
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

    /// The time before which blocks are not kept, in seconds since 1970: by the last block that was proved, and never by a time to
    /// come.
    pub fn keep_limit(&self) -> Option<u64> {
        let kept = self.settings.keep_days?.saturating_mul(86_400);
        Some(self.tip()?.timestamp.min(now()).saturating_sub(kept))
    }

    /// Reports a committed step and writes the heartbeat.
    pub fn committed(&mut self, what: &str) -> Result<()> {
        let position = self.position();
        self.reporter.step(what, position);
        self.beat()
    }

    fn position(&self) -> Position {
        if !self.settings.follows() {
            let (sealed, left) = self.sealed_and_left();
            return Position::History { sealed, wanted: sealed + left };
        }
        let head = self.head.map_or(0, |head| head.number);
        let tip = self.tip().map_or(0, |tip| tip.number);
        Position::Head {
            first: self.wanted_first,
            tip,
            head,
            lag: head.saturating_sub(tip),
            node_lag_s: self.head.and_then(age_s),
        }
    }

    /// Writes the heartbeat.
    pub fn beat(&self) -> Result<()> {
        let head = self.head.map(|head| head.number);
        let tip = self.tip().map(|tip| tip.number);
        let wrong = self.unhealthy.clone().or_else(|| self.doubt.clone()).or_else(|| self.hole_reason());
        let heartbeat = Heartbeat {
            head,
            finalized: self.finalized,
            tip,
            sealed: self.sealed().map(|sealed| sealed.number),
            lag_blocks: head.map(|head| head.saturating_sub(tip.unwrap_or(0))),
            node_lag_s: self.head.and_then(age_s),
            unhealthy: wrong
                .or_else(|| {
                    let (&(first, last), failure) =
                        self.failures.iter().find(|(_, failure)| failure.status == "failed")?;
                    Some(format!("blocks {first} to {last} failed: {}", failure.reason))
                })
                .or_else(|| self.mending()),
            // While a hole is filled, what was there before it came is what is to be there again.
            run_first: if self.is_filling() { self.reporter.run_first_before() } else { self.run_first() },
            committed_at: self.reporter.committed_at(),
            building: self.building(),
            ..Heartbeat::waiting(self.reporter.state(), &self.settings.ipc)
        };
        self.reporter.beat(heartbeat)
    }

    /// Blocks that are sealed of those wanted, and blocks that are still to be.
    fn sealed_and_left(&self) -> (u64, u64) {
        let length = |piece: &Piece| piece.last - piece.first + 1;
        let under_way: u64 = self.under_way.iter().map(|under_way| length(&under_way.job.piece)).sum();
        let left = self.known().blocks_left();
        let wanted = self.ranges.iter().filter(|range| range.first >= self.wanted_first);
        (wanted.map(Range::blocks).sum(), left + under_way)
    }

    /// How building goes on, while it does.
    fn building(&self) -> Option<Building> {
        let (sealed, left) = self.sealed_and_left();
        (!self.under_way.is_empty()).then(|| self.rates.building(sealed, left))
    }

    /// Logs how building goes on, where it does and it is time.
    pub fn log_building(&mut self) {
        if self.rates.measure(&self.builder.meter)
            && let Some(building) = self.building()
        {
            self.reporter.building(&building);
        }
    }

    /// Waits for a while, or until there is something to do about what is under way, or the process is to stop.
    pub async fn wait(&mut self, time: Duration) {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let drained = self.drained();
        let merged = || self.merging.as_ref().is_some_and(|merging| merging.task.0.is_finished());
        let ranked = || self.ranking_under_way.as_ref().is_some_and(|ranking| ranking.0.is_finished());
        let ended = async {
            while self.ended().is_none() && !merged() && !ranked() && self.drained() == drained {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = self.stop.pause(time) => {}
            () = ended => {}
        }
    }

    /// How many of those under way have all they need of the node, and are only being written.
    fn drained(&self) -> usize {
        self.under_way.iter().filter(|under_way| under_way.drained.load(Ordering::Relaxed)).count()
    }

    /// The range that can be put in its place next: as they were planned where the published chain is to be one run of blocks,
    /// else any that is whole.
    pub fn ended(&self) -> Option<usize> {
        let candidates = if self.settings.follows() { 1 } else { usize::MAX };
        self.under_way.iter().take(candidates).position(|under_way| under_way.task.0.is_finished())
    }

    /// Takes a range into account that was committed, in the place of those it holds and of what failed there.
    pub fn add_range(&mut self, range: Range) {
        self.failures.retain(|(first, last), _| *last < range.first || *first > range.last);
        self.mends.retain(|mend| mend.last < range.first || mend.first > range.last);
        self.ranges.retain(|held| held.first < range.first || held.last > range.last);
        let at = self.ranges.partition_point(|held| held.first < range.first);
        self.ranges.insert(at, range);
    }

    /// Ends: ranges being built are dropped, a merge finishes or is dropped, and what there is is published.
    pub async fn close(&mut self) -> Result<()> {
        self.stop.flag.store(true, Ordering::Relaxed);
        self.under_way.clear();
        if let Some(Merging { blocks, task }) = self.merging.take() {
            // Its thread yields to everything else on the machine, and may not even come to see that it is to stop.
            match tokio::time::timeout(DRAIN, task).await.unwrap_or(Ok(Err(FetchError::Stopped))) {
                Ok(Ok(range)) => {
                    self.add_range(range);
                    self.dirty = true;
                }
                Ok(Err(FetchError::Other(error))) => self.note_unmerged(blocks, &error),
                _ => {}
            }
        }
        if !self.settings.follows() {
            self.rates.log_total(&self.builder.meter);
        }
        self.reporter.log_state("stopped".to_owned());
        self.publish(true)?;
        self.beat()
    }

    /// Removes the tail's blocks that a sealed range holds.
    pub fn drop_sealed_tail(&mut self) -> Result<()> {
        let is_sealed = |number: u64| {
            let below = self.ranges.partition_point(|range| range.first <= number);
            below > 0 && self.ranges[below - 1].last >= number
        };
        for link in self.tail.extract_if(.., |link| is_sealed(link.number)) {
            tail::remove(self.store.root(), link.number, link.hash)?;
        }
        self.trim_tail_gaps();
        Ok(())
    }

    /// Forgets what is missing of blocks that are not in the tail any more.
    pub fn trim_tail_gaps(&mut self) {
        match self.tail.first().zip(self.tail.last()) {
            Some((first, last)) => Gap::trim(&mut self.tail_gaps, first.number, last.number),
            None => self.tail_gaps.clear(),
        }
    }

    /// Whether a piece is traced, and so does not come out of the freezer.
    pub fn is_traced(&self) -> bool {
        self.settings.traces == Traces::All && self.settings.tables.needs_state() && self.is_anchored()
    }

    /// An error where a block failed its check and all of them were to be seen through.
    pub fn verdict(&self) -> Result<()> {
        if self.settings.ends()
            && let Some((first, last)) = self.hole
        {
            let what = format!("blocks {first} to {last} of the tail are missing, and the node's head is below them");
            return Err(Failed::new(what, "run it again when the node has them").into());
        }
        if self.settings.ends()
            && let Some((&(first, last), failure)) =
                self.failures.iter().find(|(_, failure)| failure.status == "failed")
        {
            let what = format!("blocks {first} to {last} are not stored: {}", failure.reason);
            let hint =
                "the node's answer is in `quarantine/`; run it again to ask once more, of another node if need be";
            return Err(Failed::new(what, hint).into());
        }
        Ok(())
    }
}

/// Starts threads that compute.
fn pool(threads: rayon::ThreadPoolBuilder) -> Result<Arc<rayon::ThreadPool>> {
    let pool = threads.build().map_err(|error| {
        let hint = "choose fewer --workers, a larger --memory-max, or let there be more processes (`--pids-limit`, `ulimit -u`)";
        Refused::new(format!("threads for the work cannot be started: {error}"), hint)
    })?;
    Ok(Arc::new(pool))
}

/// What the chain began with, where the node tells it.
async fn allocation(client: &Client, chain: &Chain) -> Result<Option<Allocation>, FetchError> {
    let allocation = match client.genesis_allocation(chain.identity.genesis_hash).await {
        Ok(json) => Allocation::decode(&json).map_err(|error| format!("{error:#}")),
        Err(error) if error.is_passing() => return Err(FetchError::Away(error)),
        Err(error) => Err(error.to_string()),
    };
    Ok(allocation.inspect_err(|reason| tracing::info!(reason, "the genesis allocation is not known")).ok())
}
