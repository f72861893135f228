//! The loops that drive everything: `spyhop watch`, and `spyhop backfill`, which is the same without the head.
//!
//! `follow` looks at the node and the store, does the next thing, commits it and returns; only the loop here waits. `build`
//! makes ranges beside it, on as many workers as there are cores, and hands over finished directories. geth being absent,
//! starting, syncing, behind or restarting is a normal state: logged once when it changes, and waited out.
//!
//! What `watch` publishes is one run of blocks, so it puts ranges in their place in the order they were planned in, oldest first
//! where nothing else is asked for; `backfill` puts them there as they come, newest first, and `coverage` names the gaps.

mod build;
pub mod contiguity;
mod coverage;
mod fetch;
mod follow;
mod frames;
mod freezer;
mod from_freezer;
mod hydrate;
mod limits;
mod mend;
mod meter;
mod node;
mod pressure;
mod progress;
mod readiness;
mod repair;
mod session;
mod space;
mod state;
mod tokens;

pub use limits::go_behind;
pub use progress::{Heartbeat, SourceRate, age_s, now};
pub use repair::{Faulty, repair};

use crate::answers::Labels;
use crate::error::{Failed, Refused};
use crate::events::Events;
use crate::geth::{self, Client, Limits};
use crate::plan::Order;
use crate::publish::Publisher;
use crate::rows::Selection;
use crate::store::Store;
use alloy_primitives::Address;
use anyhow::{Context, Result, bail};
use fetch::FetchError;
use session::Session;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often the head is looked at when there is nothing else to do.
const POLL: Duration = Duration::from_millis(250);

/// The longest pause while the node is away.
const AWAY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long the process may take to end when it is told to.
const STOP_MAX: Duration = Duration::from_secs(30);

/// How long a node may contradict itself where the end is waited for.
const DOUBT_MAX: Duration = Duration::from_secs(10);

/// From which block on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// This height.
    Block(u64),
    /// So many blocks below the head.
    BelowHead(u64),
    /// The first block the node has.
    Earliest,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Build what is final, follow the head, and with `once` end when it is reached.
    Follow {
        /// End when the head is reached.
        once: bool,
    },
    /// Build what is final up to this block, or all of it, at full speed, and end.
    Backfill {
        /// The last block wanted.
        last: Option<u64>,
    },
}

/// Which blocks the node is asked to trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traces {
    /// None.
    Off,
    /// Those that enter the tail.
    #[default]
    Head,
    /// Those of history too, where the node serves their state. They then come over its socket.
    All,
}

/// What to do and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is to be done.
    pub task: Task,
    /// geth's socket.
    pub ipc: PathBuf,
    /// The volume.
    pub data: PathBuf,
    /// From which block on.
    pub from: From,
    /// Drop ranges that are older than so many days.
    pub keep_days: Option<u64>,
    /// How deep a block counts as final on a chain that never names a finalized one.
    pub finality_depth: u64,
    /// The chain's wrapped ether, where it is not the known one.
    pub weth: Option<Address>,
    /// The volume's directory as a second published file names it; `None` for no such file.
    pub published_path: Option<PathBuf>,
    /// The operator's names of addresses.
    pub labels: Option<PathBuf>,
    /// The operator's directory of ABI files.
    pub abi: Option<PathBuf>,
    /// Memory the process may have.
    pub memory_bytes_max: u64,
    /// The tables to be made.
    pub tables: Selection,
    /// Which blocks are traced.
    pub traces: Traces,
    /// Which ranges are built first.
    pub order: Order,
    /// Ranges built at the same time, at most.
    pub workers: usize,
    /// geth's freezer, where it does not lie below the node's data directory.
    pub freezer: Option<PathBuf>,
    /// Era files, where they do not lie beside the freezer.
    pub era: Option<PathBuf>,
}

impl Settings {
    /// Whether the process ends by itself when all is done.
    fn ends(&self) -> bool {
        self.task != Task::Follow { once: false }
    }

    /// Whether the head is followed.
    fn follows(&self) -> bool {
        matches!(self.task, Task::Follow { .. })
    }
}

/// The end of the process, asked for from outside.
#[derive(Clone, Debug)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    changed: watch::Receiver<bool>,
}

impl Stop {
    /// Listens for SIGTERM and SIGINT. The second one ends the process at once.
    fn on_signals() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // Armed by the first: in this order, or the first would end it.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, flag.clone())?;
            signal_hook::flag::register(signal, flag.clone())?;
        }
        let (sender, changed) = watch::channel(false);
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                // Nobody listens only when the process has ended.
                let _ = sender.send(true);
                tracing::info!(signal, "stopping");
                // Whatever it is at: what is half done is seen to at the next start.
                std::thread::spawn(move || {
                    std::thread::sleep(STOP_MAX);
                    signal_hook::low_level::exit(128 + signal);
                });
            }
        })?;
        Ok(Self { flag, changed })
    }

    /// Whether it was asked for.
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Waits for the end to be asked for.
    pub async fn wait(&self) {
        let mut changed = self.changed.clone();
        // An error means that the signal thread is gone, and then nobody can ask.
        if changed.wait_for(|stop| *stop).await.is_err() {
            std::future::pending().await
        }
    }

    /// Runs something to its end, or drops it when the end of the process is asked for.
    async fn or_stopped<T>(&self, work: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
        tokio::select! {
            biased;
            () = self.wait() => Err(FetchError::Stopped),
            result = work => result,
        }
    }

    /// Waits, and returns early when the end is asked for.
    pub async fn pause(&self, time: Duration) {
        // Either end is fine: the caller looks again.
        let _ = tokio::time::timeout(time, self.wait()).await;
    }
}

/// Runs until it is told to stop, or until all is done where it ends by itself.
///
/// # Errors
/// Where the volume cannot be used or holds another chain; where it ends by itself also where a block failed its check.
pub fn run(settings: Settings) -> Result<()> {
    geth::check_socket(&settings.ipc)?;
    for directory in [&settings.freezer, &settings.era].into_iter().flatten() {
        check_history(directory)?;
    }
    settings.labels.as_deref().map_or(Ok(()), Labels::check)?;
    settings.abi.as_deref().map_or(Ok(()), Events::check)?;
    limits::apply(settings.memory_bytes_max, settings.follows());
    let stop = Stop::on_signals()?;
    let store = match space::open_when_there_is_room(&settings.data, &stop) {
        Err(error) if space::is_disk_full(&error) && stop.is_set() => return Ok(()),
        opened => Arc::new(opened?),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(watch(settings, store, stop.clone()));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Err(FetchError::Stopped) if stop.is_set() => Ok(()),
        Err(FetchError::Other(error)) => Err(error),
        Err(FetchError::Bad { number, reason }) => {
            let hint =
                "the node's answer is in `quarantine/`; run it again to ask once more, of another node if need be";
            Err(Failed::new(reason, hint)).context(format!("block {number} failed"))
        }
        Err(FetchError::Pruned(reason)) => {
            let hint = "give a later `--from`, or a node that has the history";
            Err(Failed::new(reason, hint)).context("the node has pruned a block of the tail")
        }
        Err(FetchError::Doubt(reason)) => {
            let hint = "see geth's log and restart it; nothing was touched, and another run asks again";
            Err(Failed::new(reason, hint)).context("the node contradicts itself")
        }
        Err(trouble) => bail!("ended without need: {trouble:?}"),
        Ok(()) => Ok(()),
    }
}

/// Refuses a place of history that can be none. One that is not there may be mounted later.
fn check_history(directory: &Path) -> Result<(), Refused> {
    if directory.is_dir() {
        return Ok(());
    }
    let shown = directory.display();
    if directory.exists() {
        return Err(Refused::new(format!("`{shown}` is not a directory"), "name the directory that the files lie in"));
    }
    tracing::warn!("`{shown}` is not there: it is looked for, and until it is found history comes over geth's socket");
    Ok(())
}

async fn watch(settings: Settings, store: Arc<Store>, stop: Stop) -> Result<(), FetchError> {
    let client = Client::new(&settings.ipc, Limits::of_memory(settings.memory_bytes_max));
    let publisher = Publisher::new(&store, settings.published_path.clone())?;
    let mut reporter = progress::Reporter::new(store.clone());
    // The one before this may have left word of something else. Where nothing can be written, that is logged below.
    let _ = reporter.beat(Heartbeat::waiting("starting", client.path()));
    let node = stop.or_stopped(node::wait(&client, &store, &settings, &stop, &mut reporter)).await?;
    let opening = Session::open(settings, store, client, node, publisher, reporter, stop.clone());
    let mut session = stop.or_stopped(opening).await?;
    session.check_ranges()?;
    let mut away_pause = POLL;
    let mut doubted = None;
    let mut lag = readiness::Lag::default();
    let ended = loop {
        // Between its commits a step may be dropped anywhere.
        match stop.or_stopped(session.step()).await {
            Ok(follow::Step::Done) => break Ok(()),
            Ok(follow::Step::Advanced) => (away_pause, doubted) = (POLL, None),
            Ok(follow::Step::Idle) => {
                (away_pause, doubted) = (POLL, None);
                lag.log(&mut session).await;
                session.wait(POLL).await;
            }
            Err(FetchError::Away(error)) => {
                if error.is_other_chain() {
                    if session.settings.ends() {
                        let hint = "give the socket of the node that the data came from, or each chain a data directory of its own";
                        break Err(Refused::new(error.to_string(), hint).into());
                    }
                    session.unhealthy = Some(error.to_string());
                }
                session.reporter.log_state(format!("waiting for geth: {:#}", anyhow::Error::new(error)));
                session.beat().map_err(FetchError::Other)?;
                session.wait(away_pause).await;
                away_pause = (away_pause * 2).min(AWAY_PAUSE_MAX);
            }
            Err(FetchError::Bad { number, reason }) => {
                session.unhealthy = Some(reason.clone());
                session.reporter.log_state(format!("waiting: {reason}"));
                if session.settings.ends() {
                    break Err(FetchError::Bad { number, reason });
                }
                session.beat().map_err(FetchError::Other)?;
                session.wait(away_pause).await;
                away_pause = (away_pause * 2).min(AWAY_PAUSE_MAX);
            }
            Err(FetchError::Doubt(reason)) => {
                let since = *doubted.get_or_insert_with(Instant::now);
                session.unhealthy = Some(reason.clone());
                session.reporter.log_state(format!("waiting: {reason}"));
                // It may be a reorganisation that came between two answers.
                if session.settings.ends() && since.elapsed() > DOUBT_MAX {
                    break Err(FetchError::Doubt(reason));
                }
                session.beat().map_err(FetchError::Other)?;
                session.wait(away_pause).await;
                away_pause = (away_pause * 2).min(AWAY_PAUSE_MAX);
            }
            Err(FetchError::Stopped) => break Ok(()),
            Err(FetchError::Other(error)) if space::is_disk_full(&error) => {
                session.give_way(&error).map_err(FetchError::Other)?;
                session.wait(away_pause).await;
                away_pause = (away_pause * 2).min(AWAY_PAUSE_MAX);
            }
            Err(error) => break Err(error),
        }
    };
    // Refused, or unable to write: what is published stays as it is.
    if matches!(ended, Err(FetchError::Other(_))) {
        return ended;
    }
    match session.close().await {
        Err(error) if space::is_disk_full(&error) => tracing::warn!("not published for want of space: {error:#}"),
        closed => closed.context("failed to end cleanly").map_err(FetchError::Other)?,
    }
    ended?;
    session.verdict().map_err(FetchError::Other)
}

/// Marks a phase of writing in the log, for those who test what a kill in it does.
fn phase(name: &'static str) -> impl Drop {
    struct Phase(&'static str);
    impl Drop for Phase {
        fn drop(&mut self) {
            tracing::debug!(target: "spyhop::phase", phase = %self.0, "exit");
        }
    }
    tracing::debug!(target: "spyhop::phase", phase = %name, "enter");
    Phase(name)
}
