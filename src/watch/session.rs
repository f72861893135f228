//! The state of the loops, each part with its own owner, and what depends on several parts.

use super::builder::Builder;
use super::connect::Found;
use super::error::FetchError;
use super::fetch::Fetcher;
use super::heartbeat::{Heartbeat, age_s};
use super::jobs::Jobs;
use super::limits::lower_priority;
use super::meter::Meter;
use super::node::Node;
use super::pressure::Gate;
use super::progress::Building;
use super::publication::Publication;
use super::reporter::{Position, Reporter};
use super::sealed::Sealed;
use super::settings::Settings;
use super::space;
use super::state::StateAsker;
use super::tail::Tail;
use crate::answers::{Labels, Ranking};
use crate::error::{Failed, Refused};
use crate::events::Events;
use crate::freezer::Places;
use crate::geth::Client;
use crate::plan::{Known, Piece};
use crate::publish::Publisher;
use crate::recover;
use crate::rows::Options;
use crate::stop::Stop;
use crate::store::{BlockLink, Range, Store};
use anyhow::Result;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The state of a `watch` or a `backfill`.
#[derive(Debug)]
pub(super) struct Session {
    pub settings: Settings,
    pub store: Arc<Store>,
    pub stop: Stop,
    pub reporter: Reporter,
    /// What is wrong at the head, if anything.
    pub unhealthy: Option<String>,
    pub node: Node,
    pub sealed: Sealed,
    pub tail: Tail,
    pub jobs: Jobs,
    pub publication: Publication,
}

impl Session {
    /// Continues from what is stored.
    pub(super) async fn open(
        settings: Settings,
        store: Arc<Store>,
        client: Client,
        found: Found,
        publisher: Publisher,
        reporter: Reporter,
        stop: Stop,
    ) -> Result<Self, FetchError> {
        let Found { chain, schedule, issuance, genesis, requested_first, freezer } = found;
        let mut sealed = Sealed::open(store.clone(), chain.identity, requested_first, &settings)?;
        let labels = Labels::open(chain.identity.chain_id, chain.weth, settings.labels.clone())?;
        let events = Events::open(settings.abi.clone())?;
        let state = StateAsker {
            client: client.clone(),
            options: Options { weth: chain.weth, issuance, tables: settings.tables },
            traces: settings.traces,
            tracing: Arc::new(Semaphore::new(1)),
            memory: Arc::default(),
            hydrated: Arc::default(),
            genesis: genesis.map(Arc::new),
        };
        let fetcher = Fetcher {
            client: client.clone(),
            store: store.clone(),
            schedule: Arc::new(schedule),
            pace: Arc::default(),
            state,
            pool: pool(rayon::ThreadPoolBuilder::new())?,
            warned: Arc::new(Mutex::new(HashSet::new())),
            proof_failures: Arc::default(),
        };
        let build_pool = rayon::ThreadPoolBuilder::new().num_threads(settings.workers);
        // If it ends by itself, somebody is waiting for the end.
        let pauses = !settings.ends();
        let build_pool = pool(build_pool.start_handler(move |_| lower_priority(pauses)))?;
        let builder = Builder {
            fetcher: Fetcher { pool: build_pool, ..fetcher.clone() },
            identity: chain.identity,
            history: Places::default(),
            anchored: false,
            pauses,
            gate: Arc::new(Gate::new(pauses)),
            meter: Arc::new(Meter::default()),
            stop: stop.clone(),
        };
        let ranking = Ranking::newest(&store, &sealed.ranges)?;
        let tail = Tail::open(fetcher, sealed.top())?;
        if settings.follows() {
            sealed.want_what_is_stored(tail.lowest(), reporter.run_first_before());
        }
        Ok(Self {
            node: Node::new(client, chain, freezer, &settings),
            tail,
            jobs: Jobs::new(builder, &sealed.ranges),
            publication: Publication::new(publisher, labels, events, ranking),
            sealed,
            settings,
            store,
            stop,
            reporter,
            unhealthy: None,
        })
    }

    pub(super) fn tip(&self) -> Option<BlockLink> {
        self.tail.links.last().copied().or_else(|| self.sealed.top())
    }

    /// The published ranges.
    pub(super) fn kept(&self) -> &[Range] {
        self.sealed.kept(self.tip())
    }

    /// Whether a hole in the tail is being filled: meanwhile nothing is published or built.
    pub(super) fn is_filling(&self) -> bool {
        self.tail.is_filling(&self.node)
    }

    /// Whether this many bytes can be written without using the space reserved for geth; logs if
    /// not.
    pub(super) fn has_room(&mut self, bytes: u64) -> Result<bool> {
        space::has_room(&self.store, bytes, &mut self.reporter)
    }

    /// The planner's input.
    pub(super) fn known(&self) -> Known {
        let Sealed { requested_first, requested_last, ref ranges, .. } = self.sealed;
        let lacking = ranges.iter().filter(|range| {
            (!range.tables().covers(self.settings.tables) || self.node.is_to_be_asked(range))
                && range.first >= requested_first
                && requested_last.is_none_or(|last| range.last <= last)
        });
        let lacking = lacking.map(|range| (range.first, range.last));
        let damaged = self.sealed.rebuilds_requested().map(|rebuild| (rebuild.first, rebuild.last));
        Known {
            requested_first,
            requested_last,
            finalized: self.node.last_final(),
            in_freezer: self.node.in_freezer(),
            damaged: damaged.filter(|blocks| !self.sealed.is_resting(*blocks)).collect(),
            lacking: lacking.filter(|blocks| !self.sealed.is_resting(*blocks)).collect(),
            settled: self.sealed.settled(),
            in_progress: self.jobs.pieces().collect(),
            tail: self.tail.blocks(),
            order: self.settings.order,
        }
    }

    /// Reports a committed step and writes the heartbeat.
    pub(super) fn committed(&mut self, what: &str) -> Result<()> {
        self.publication.dirty = true;
        let position = self.position();
        self.reporter.step(what, position);
        self.beat()
    }

    fn position(&self) -> Position {
        if !self.settings.follows() {
            let (sealed, left) = self.sealed_and_left();
            return Position::History { sealed, wanted: sealed + left };
        }
        let head = self.node.head.map_or(0, |head| head.number);
        let tip = self.tip().map_or(0, |tip| tip.number);
        Position::Head {
            first: self.sealed.requested_first,
            tip,
            head,
            lag: head.saturating_sub(tip),
            node_lag_s: self.node.head.and_then(age_s),
        }
    }

    pub(super) fn beat(&self) -> Result<()> {
        let head = self.node.head.map(|head| head.number);
        let tip = self.tip();
        let heartbeat = Heartbeat {
            head,
            finalized: self.node.finalized,
            tip: tip.map(|tip| tip.number),
            sealed: self.sealed.top().map(|sealed| sealed.number),
            lag_blocks: head.map(|head| head.saturating_sub(tip.map_or(0, |tip| tip.number))),
            node_lag_s: self.node.head.and_then(age_s),
            sender_differences: recover::differences(),
            proof_failures: self.jobs.builder.fetcher.proof_failures(),
            calls: self.jobs.builder.fetcher.client.calls(),
            paused: self.jobs.builder.gate.why_closed(),
            unhealthy: self.wrong(),
            // While a hole is filled, the run still begins where it did before.
            run_first: match self.is_filling() {
                true => self.reporter.run_first_before(),
                false => self.sealed.run_first(self.tail.first(), tip),
            },
            committed_at: self.reporter.committed_at(),
            building: self.building(),
            ..Heartbeat::waiting(self.reporter.state(), &self.settings.ipc)
        };
        self.reporter.beat(heartbeat)
    }

    /// What is wrong, first what does not resolve itself.
    fn wrong(&self) -> Option<String> {
        let at_head = self
            .unhealthy
            .clone()
            .or_else(|| self.node.doubt.clone())
            .or_else(|| self.tail.hole_reason());
        at_head.or_else(|| {
            if let Some((first, last, reason)) = self.sealed.first_failed() {
                return Some(format!("blocks {first} to {last} failed: {reason}"));
            }
            if let Some(reason) = self.publication.failure() {
                return Some(format!("not published, will be retried: {reason}"));
            }
            if let Some(rebuild) = self.sealed.rebuilds_requested().next() {
                let (first, last, path) = (rebuild.first, rebuild.last, rebuild.path.display());
                return Some(format!(
                    "blocks {first} to {last} were damaged and are being rebuilt; the old files \
                    are in `{path}`"
                ));
            }
            let (first, last, reason) = self.jobs.first_unmerged()?;
            Some(format!("blocks {first} to {last} could not be merged, will be retried: {reason}"))
        })
    }

    /// Requested blocks that are sealed, and those still to be sealed.
    fn sealed_and_left(&self) -> (u64, u64) {
        let length = |piece: Piece| piece.last - piece.first + 1;
        let in_progress: u64 = self.jobs.pieces().map(length).sum();
        let left = self.known().blocks_left();
        let wanted =
            self.sealed.ranges.iter().filter(|range| range.first >= self.sealed.requested_first);
        (wanted.map(Range::blocks).sum(), left + in_progress)
    }

    /// Progress of building, while ranges are being built.
    fn building(&self) -> Option<Building> {
        self.jobs.pieces().next()?;
        let (sealed, left) = self.sealed_and_left();
        Some(self.jobs.rates.building(sealed, left))
    }

    /// Logs progress of building, if it is time.
    pub(super) fn log_building(&mut self) {
        if self.jobs.rates.measure(&self.jobs.builder.meter)
            && let Some(building) = self.building()
        {
            self.reporter.building(&building);
        }
    }

    /// Waits for a while, or until a job needs attention or the process is to stop.
    pub(super) async fn wait(&self, time: Duration) {
        tokio::select! {
            () = self.stop.pause(time) => {}
            () = self.jobs.wait(self.settings.follows()) => {}
        }
    }

    /// Fails if the task has ended and not all blocks are stored.
    pub(super) fn verdict(&self) -> Result<()> {
        if !self.settings.ends() {
            return Ok(());
        }
        if let Some((first, last)) = self.tail.hole {
            let what = format!(
                "blocks {first} to {last} of the tail are missing, and the node's head is below \
                them"
            );
            return Err(Failed::new(what, "run it again when the node has them").into());
        }
        if let Some((first, last, reason)) = self.sealed.first_failed() {
            let what = format!("blocks {first} to {last} are not stored: {reason}");
            let hint = "the node's answer is in `quarantine/`; run it again to retry, with \
                another node if necessary";
            return Err(Failed::new(what, hint).into());
        }
        Ok(())
    }
}

fn pool(threads: rayon::ThreadPoolBuilder) -> Result<Arc<rayon::ThreadPool>> {
    let pool = threads.build().map_err(|error| {
        let hint = "use fewer --workers, a larger --memory-max, or allow more processes \
            (`--pids-limit`, `ulimit -u`)";
        Refused::new(format!("failed to start threads: {error}"), hint)
    })?;
    Ok(Arc::new(pool))
}
