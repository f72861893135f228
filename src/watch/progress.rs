//! What the operator sees: a line per committed step or a progress bar, and the heartbeat that `spyhop status` reads.

pub use crate::clock::now;

use super::meter::{Counter, Meter, process_time, time_since_boot};
use crate::geth::Head;
use crate::log;
use crate::store::Store;
use crate::text::shown;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often the progress of building is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How often the bar is drawn in a second at most.
const FRAMES_S: u8 = 20;

/// How often the heartbeat is written at least, while a step takes its time.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// How far the clocks of two machines may be apart, in seconds.
const SKEW_S: u64 = 5;

/// Seconds from 1970 to mainnet's block 1, the first that any network made. A block that says it is older, as genesis blocks do,
/// says nothing of when it was made.
const FIRST_BLOCK_S: u64 = 1_438_269_988;

/// `.spyhop/heartbeat`: the writer's state after its last step.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Heartbeat {
    /// The writer's process.
    pub process: u32,
    /// When it was written, seconds since 1970.
    pub time: u64,
    /// The same on the machine's own clock, which nobody sets.
    #[serde(default)]
    pub uptime: Option<Uptime>,
    /// How long the step that is being taken had taken by then, in seconds.
    #[serde(default)]
    pub busy_s: u64,
    /// What it does or waits for.
    pub state: String,
    /// The node's head.
    pub head: Option<u64>,
    /// The node's last finalized block.
    pub finalized: Option<u64>,
    /// The last block held.
    pub tip: Option<u64>,
    /// The last block sealed.
    pub sealed: Option<u64>,
    /// The first block of the run that ends at the last block held.
    #[serde(default)]
    pub run_first: Option<u64>,
    /// Blocks between the node's head and the last block held.
    pub lag_blocks: Option<u64>,
    /// Age of the node's head, in seconds: the node's own lag. A genesis block has none.
    pub node_lag_s: Option<u64>,
    /// What is wrong, if anything is.
    pub unhealthy: Option<String>,
    /// geth's socket.
    #[serde(default)]
    pub ipc: PathBuf,
    /// When a step was committed last, seconds since 1970; `None` where none was since the start.
    #[serde(default)]
    pub committed_at: Option<u64>,
    /// How building goes on, while it does.
    #[serde(default)]
    pub building: Option<Building>,
}

impl Heartbeat {
    /// The one on the volume at `root`; `None` where no writer was there yet, or where it cannot be read: a writer soon makes another.
    pub fn read(root: &Path) -> Option<Self> {
        Self::read_strictly(root).ok().flatten()
    }

    /// The same, with what is wrong with it.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub fn read_strictly(root: &Path) -> Result<Option<Self>> {
        match std::fs::read(root.join(".spyhop/heartbeat")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).context("failed to read the heartbeat"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("failed to read the heartbeat"),
        }
    }

    /// That of a writer which has no node yet.
    pub fn waiting(state: &str, ipc: &Path) -> Self {
        // Whoever reads it may have another working directory.
        let ipc = std::path::absolute(ipc).unwrap_or(ipc.to_owned());
        Self { process: std::process::id(), state: state.to_owned(), ipc, ..Self::default() }
    }

    /// How old it is, in seconds; `None` where it is of a time that has not come yet.
    pub fn age_s(&self) -> Option<u64> {
        let by_uptime = self.uptime.as_ref().and_then(|uptime| Uptime::now()?.since(uptime));
        by_uptime.or_else(|| (now() + SKEW_S).checked_sub(self.time).map(|age| age.saturating_sub(SKEW_S)))
    }

    /// Whether it was written since this machine was started.
    pub fn is_of_this_boot(&self) -> bool {
        Uptime::now().is_some_and(|now| self.uptime.as_ref().is_some_and(|then| then.boot == now.boot))
    }
}

/// A time since a start of the machine.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Uptime {
    /// Which start.
    boot: String,
    /// Seconds since then.
    seconds: u64,
}

impl Uptime {
    /// Now; `None` where the system does not say which start it was.
    fn now() -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self { boot: boot.trim().to_owned(), seconds: time_since_boot().as_secs() })
    }

    /// Seconds since then, where that was since the same start.
    fn since(&self, then: &Self) -> Option<u64> {
        self.seconds.checked_sub(then.seconds).filter(|_| self.boot == then.boot)
    }
}

/// Age of a block, in seconds, where it tells when it was made.
pub fn age_s(head: Head) -> Option<u64> {
    let tells = head.number > 0 && head.timestamp >= FIRST_BLOCK_S;
    tells.then(|| now().saturating_sub(head.timestamp))
}

/// Writes the heartbeat: after each step, and again where the next one takes its time.
#[derive(Debug)]
struct Pulse {
    store: Arc<Store>,
    /// The last one, and when the step was taken that it is of.
    last: Mutex<Option<(Heartbeat, Instant)>>,
}

impl Pulse {
    fn start(store: Arc<Store>) -> Arc<Self> {
        let pulse = Arc::new(Self { store, last: Mutex::default() });
        let beating = Arc::downgrade(&pulse);
        let thread = thread::Builder::new().name("heartbeat".to_owned()).spawn(move || Self::go_on(&beating));
        if let Err(error) = thread {
            tracing::warn!(%error, "a step that takes long will look like a dead writer: no thread");
        }
        pulse
    }

    /// Beats until whoever takes the steps is gone.
    fn go_on(pulse: &Weak<Self>) {
        loop {
            thread::sleep(BEAT_EVERY);
            let Some(pulse) = pulse.upgrade() else { return };
            let mut last = pulse.last.lock().expect("nothing panics while holding it");
            if let Some((heartbeat, stepped)) = &mut *last
                && stepped.elapsed() >= BEAT_EVERY
            {
                heartbeat.busy_s = stepped.elapsed().as_secs();
                // The step itself will find out why it cannot be written.
                let _ = pulse.write(heartbeat);
            }
        }
    }

    fn beat(&self, mut heartbeat: Heartbeat) -> Result<()> {
        let mut last = self.last.lock().expect("nothing panics while holding it");
        let written = self.write(&mut heartbeat);
        *last = Some((heartbeat, Instant::now()));
        written
    }

    fn write(&self, heartbeat: &mut Heartbeat) -> Result<()> {
        (heartbeat.time, heartbeat.uptime) = (now(), Uptime::now());
        self.store.beat(heartbeat)
    }
}

/// How building goes on.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Building {
    /// Blocks that are sealed of those wanted, in thousandths.
    pub done_permille: u64,
    /// Blocks still to be read.
    pub blocks_left: u64,
    /// Seconds until all are, at the present rate; `None` while there is none.
    pub eta_s: Option<u64>,
    /// The sources that gave blocks lately.
    pub sources: Vec<SourceRate>,
}

/// What one source gives.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct SourceRate {
    /// `freezer` or `node`.
    pub source: String,
    /// Blocks so far in this run.
    pub blocks: u64,
    /// Blocks a second, lately.
    pub blocks_s: u64,
    /// Thousand bytes read a second, lately: as they are stored in the freezer, or of RLP from the node.
    pub kb_s: u64,
}

/// The rates of building, from one telling to the next.
#[derive(Debug)]
pub struct Rates {
    started: Instant,
    at: Instant,
    /// Blocks and bytes of each source by then.
    before: [(u64, u64); 2],
    rates: Vec<SourceRate>,
}

impl Rates {
    /// Nothing was read yet.
    pub fn new() -> Self {
        Self { started: Instant::now(), at: Instant::now(), before: [(0, 0); 2], rates: Vec::new() }
    }

    /// Measures anew, where it is time; says whether it was.
    pub fn measure(&mut self, meter: &Meter) -> bool {
        let elapsed = self.at.elapsed();
        if elapsed < LOG_EVERY {
            return false;
        }
        let now =
            [("freezer", &meter.freezer), ("node", &meter.node)].map(|(name, counter)| (name, Counter::read(counter)));
        let rate = |now: u64, before: u64| ((now - before) as f64 / elapsed.as_secs_f64()).round() as u64;
        self.rates = now
            .iter()
            .zip(self.before)
            .filter(|((_, now), before)| now.0 > before.0)
            .map(|((source, now), before)| SourceRate {
                source: (*source).to_owned(),
                blocks: now.0,
                blocks_s: rate(now.0, before.0),
                kb_s: rate(now.1, before.1) / 1_000,
            })
            .collect();
        self.before = now.map(|(_, now)| now);
        self.at = Instant::now();
        true
    }

    /// Tells what the whole run came to: what each source gave, and what the processors did.
    pub fn log_total(&self, meter: &Meter) {
        let seconds = self.started.elapsed().as_secs_f64();
        let rounded = |value: f64| (value * 10.0).round() / 10.0;
        for (source, counter) in [("freezer", &meter.freezer), ("node", &meter.node)] {
            let (blocks, bytes) = counter.read();
            if blocks > 0 {
                let (blocks_s, mb_s) = (rounded(blocks as f64 / seconds), rounded(bytes as f64 / 1e6 / seconds));
                tracing::info!(source, blocks, seconds = rounded(seconds), blocks_s, mb_s, "read");
            }
        }
        let processor_s = process_time().as_secs_f64();
        let recovery_s = meter.recovery().as_secs_f64();
        if recovery_s > 0.0 {
            let share = rounded(100.0 * recovery_s / processor_s);
            let (processor_s, recovery_s) = (rounded(processor_s), rounded(recovery_s));
            tracing::info!(processor_s, recovery_s, recovery_percent = share, "processor time");
        }
    }

    /// How building goes on, with so many blocks sealed and so many left.
    pub fn building(&self, sealed: u64, left: u64) -> Building {
        let blocks_s: u64 = self.rates.iter().map(|rate| rate.blocks_s).sum();
        Building {
            done_permille: sealed * 1_000 / (sealed + left).max(1),
            blocks_left: left,
            eta_s: left.checked_div(blocks_s),
            sources: self.rates.clone(),
        }
    }
}

/// Logs what happens, once, or shows it in a bar.
#[derive(Debug)]
pub struct Reporter {
    /// The first block of the run that another writer left.
    run_first_before: Option<u64>,
    bar: Option<ProgressBar>,
    /// The last state that was logged; the same is not logged again.
    logged: String,
    /// When a step was committed last, seconds since 1970.
    committed_at: Option<u64>,
    pulse: Arc<Pulse>,
}

impl Reporter {
    /// A bar where standard error is a terminal, else lines.
    pub fn new(store: Arc<Store>) -> Self {
        let style = "{prefix} [{bar:40}] {human_pos}/{human_len} blocks  {per_sec}  ETA {eta}  {msg}";
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(style).expect("the template is constant");
            let screen = ProgressDrawTarget::term_like_with_hz(Box::new(log::Screen::default()), FRAMES_S);
            ProgressBar::with_draw_target(Some(0), screen).with_style(style.progress_chars("=> ")).with_prefix("spyhop")
        });
        let before = Heartbeat::read(store.root());
        let run_first_before = before.and_then(|heartbeat| heartbeat.run_first);
        Self { bar, logged: String::new(), committed_at: None, pulse: Pulse::start(store), run_first_before }
    }

    /// How far down the run of blocks went by the last heartbeat of another writer.
    pub fn run_first_before(&self) -> Option<u64> {
        self.run_first_before
    }

    /// Writes the heartbeat, and goes on writing it until the next one comes. What it does not know of the run of blocks is as before.
    pub fn beat(&self, heartbeat: Heartbeat) -> Result<()> {
        self.pulse.beat(Heartbeat { run_first: heartbeat.run_first.or(self.run_first_before), ..heartbeat })
    }

    /// Logs a state when it is entered, and not again until another was logged.
    pub fn log_state(&mut self, state: String) {
        if self.logged != state {
            self.above_bar(|| tracing::info!("{state}"));
            if let Some(bar) = &self.bar {
                bar.set_message(shown(&state).into_owned());
            }
            self.logged = state;
        }
    }

    /// The last state that was logged.
    pub fn state(&self) -> &str {
        &self.logged
    }

    /// When a step was committed last, seconds since 1970.
    pub fn committed_at(&self) -> Option<u64> {
        self.committed_at
    }

    /// Reports a committed step: a log line, or the bar moved.
    pub fn step(&mut self, what: &str, position: Position) {
        self.logged = what.to_owned();
        self.committed_at = Some(now());
        let (done, all, message) = match position {
            Position::Head { first, tip, head, lag, node_lag_s } => {
                let age = node_lag_s.map(|age_s| format!(", node {age_s} s")).unwrap_or_default();
                let message = format!("lag {lag} blocks{age}: {what}");
                ((tip + 1).saturating_sub(first), head.saturating_sub(first).saturating_add(1), message)
            }
            Position::History { sealed, wanted } => (sealed, wanted, what.to_owned()),
        };
        match (&self.bar, position) {
            (Some(bar), _) => {
                bar.set_length(all);
                bar.set_position(done);
                bar.set_message(message);
            }
            (None, Position::Head { tip, head, lag, node_lag_s, .. }) => {
                tracing::info!(tip, head, lag_blocks = lag, node_lag_s, "{what}");
            }
            (None, Position::History { sealed, wanted }) => tracing::info!(sealed, wanted, "{what}"),
        }
    }

    /// Logs how building goes on.
    pub fn building(&mut self, building: &Building) {
        let done = building.done_permille as f64 / 10.0;
        let eta = building.eta_s.map_or("unknown".to_owned(), |eta| format!("{eta} s"));
        for SourceRate { source, blocks, blocks_s, kb_s } in &building.sources {
            let mb_s = *kb_s as f64 / 1_000.0;
            match &self.bar {
                Some(bar) => {
                    bar.set_message(format!("{source} {blocks_s} blocks/s, {mb_s:.1} MB/s, {done} %, ETA {eta}"))
                }
                None => tracing::info!(source, blocks, blocks_s, mb_s, done_percent = done, eta, "building"),
            }
        }
    }

    fn above_bar(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// Where the writer is.
#[derive(Clone, Copy, Debug)]
pub enum Position {
    /// On the way to the node's head.
    Head {
        /// The first block wanted.
        first: u64,
        /// The last block held.
        tip: u64,
        /// The node's head.
        head: u64,
        /// Blocks between the two.
        lag: u64,
        /// Age of the node's head, in seconds, where it has one.
        node_lag_s: Option<u64>,
    },
    /// On the way through history.
    History {
        /// Blocks sealed of those wanted.
        sealed: u64,
        /// Blocks wanted that can be.
        wanted: u64,
    },
}
