//! The main loop: `spyhop watch`, and `spyhop backfill`, which is the same without the head.
//!
//! A `step` polls the node, follows its head, builds finalized ranges, and publishes; it commits
//! its work and returns, and only the loop in this file waits. A node that is absent, starting,
//! syncing, behind or restarting is a normal state: it is logged once when it changes, and waited
//! out.
//!
//! The state of a step is split by owner, one file each, and `session` joins them:
//! - `node`: the node's head, its finalized block, the state it serves;
//! - `sealed`: the ranges, which of them are damaged, and what could not be built;
//! - `tail`: the blocks above them, a hole in them, undoing a reorganisation;
//! - `jobs`: background work on as many workers as there are cores: ranges, a merge, a ranking;
//! - `publication`: what readers see.
//!
//! The stages of a step are `step`, `follow`, `reorg`, `build` and `publish`. A worker builds a
//! range in `range`, from the freezer, the node or the tail; `fetch` proves blocks, `state` and
//! `tokens` request what blocks do not contain.
//!
//! `watch` publishes one contiguous run of blocks, so it commits ranges in the order they were
//! planned, by default oldest first. `backfill` commits them as they finish, newest first, and
//! `coverage` lists the gaps.

mod abort;
mod ask;
mod build;
mod builder;
mod connect;
pub(crate) mod contiguity;
mod coverage;
mod error;
mod fetch;
mod follow;
mod frames;
mod freezer;
mod from_freezer;
mod from_node;
mod heartbeat;
mod hydrate;
mod jobs;
mod limits;
mod meter;
mod node;
mod pressure;
mod progress;
mod publication;
mod publish;
mod range;
mod readiness;
mod rebuild;
mod reorg;
mod repair;
mod reporter;
mod sealed;
mod session;
mod settings;
mod space;
mod state;
mod step;
mod tail;
mod tokens;
mod tries;
mod wait;

pub(crate) use heartbeat::Heartbeat;
pub(crate) use limits::{die_first, go_behind, lower_priority};
pub(crate) use pressure::PauseReason;
pub(crate) use progress::{Building, SourceRate};
pub(crate) use repair::{Faulty, repair};
pub(crate) use settings::{From, Settings, Task, Traces};

use crate::answers::Labels;
use crate::error::{Failed, Refused};
use crate::events::Events;
use crate::geth::{self, Client, Limits};
use crate::publish::Publisher;
use crate::stop::Stop;
use crate::store::Store;
use anyhow::{Context, Result, bail};
use error::FetchError;
use readiness::Lag;
use reporter::Reporter;
use session::Session;
use space::is_disk_full;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use step::Step;
use wait::{Doubt, POLL, Pause};

/// Runs until stopped, or until everything is stored if the task has an end.
///
/// # Errors
/// If the volume cannot be used or is of another chain; if the task has an end, also if a block
/// failed its check.
pub(crate) fn run(settings: Settings) -> Result<()> {
    geth::check_socket(&settings.ipc)?;
    for directory in [&settings.freezer, &settings.era].into_iter().flatten() {
        check_history(directory)?;
    }
    settings.labels.as_deref().map_or(Ok(()), Labels::check)?;
    settings.abi.as_deref().map_or(Ok(()), Events::check)?;
    limits::apply(settings.memory_bytes_max, settings.follows());
    let stop = Stop::on_signals()?;
    let store = match space::open_when_there_is_room(&settings.data, &stop) {
        Err(error) if is_disk_full(&error) && stop.is_set() => return Ok(()),
        opened => Arc::new(opened?),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(watch(settings, store, stop.clone()));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Err(FetchError::Stopped) if stop.is_set() => Ok(()),
        Err(FetchError::Other(error)) => Err(error),
        Err(FetchError::Bad { number, reason }) => {
            let hint = "the node's answer is in `quarantine/`; run it again to retry, with \
                another node if necessary";
            Err(Failed::new(reason, hint)).context(format!("block {number} failed"))
        }
        Err(FetchError::Pruned(reason)) => {
            let hint = "give a later `--from`, or a node that has the history";
            Err(Failed::new(reason, hint)).context("the node has pruned a block of the tail")
        }
        Err(FetchError::Doubt(reason)) => {
            let hint =
                "see geth's log and restart it; nothing was touched, and another run retries";
            Err(Failed::new(reason, hint)).context("the node contradicts itself")
        }
        Err(trouble) => bail!("ended without a reason: {trouble:?}"),
        Ok(()) => Ok(()),
    }
}

/// Refuses a path that cannot hold history. A missing directory is only a warning: it may be
/// mounted later.
fn check_history(directory: &Path) -> Result<(), Refused> {
    if directory.is_dir() {
        return Ok(());
    }
    let shown = directory.display();
    if directory.exists() {
        return Err(Refused::new(
            format!("`{shown}` is not a directory"),
            "name the directory that contains the files",
        ));
    }
    tracing::warn!(
        "`{shown}` does not exist yet; until it does, history is read over geth's socket"
    );
    Ok(())
}

async fn watch(settings: Settings, store: Arc<Store>, stop: Stop) -> Result<(), FetchError> {
    let client = Client::new(&settings.ipc, Limits::of_memory(settings.memory_bytes_max));
    let publisher = Publisher::new(&store, settings.published_path.clone())?;
    let mut reporter = Reporter::new(store.clone());
    // The previous writer may have left another state. If this cannot be written, `connect` logs
    // it.
    let _ = reporter.beat(Heartbeat::waiting("starting", client.path()));
    let found = stop
        .or_stopped(connect::connect(&client, &store, &settings, &stop, &mut reporter))
        .await??;
    let opening = Session::open(settings, store, client, found, publisher, reporter, stop.clone());
    let mut session = stop.or_stopped(opening).await??;
    session.sealed.check_links()?;
    let ended = follow(&mut session, &stop).await;
    // Unable to write, or a bug: leave the published file as it is.
    if let Err(FetchError::Other(error)) = &ended {
        if error.is::<Refused>() {
            session.publish_committed(true);
        }
        return ended;
    }
    match session.close().await {
        Err(error) if is_disk_full(&error) => {
            tracing::warn!("not published for lack of space: {error:#}")
        }
        closed => closed.context("failed to end cleanly")?,
    }
    ended?;
    Ok(session.verdict()?)
}

/// Takes step after step, until the task is done or the process is to stop.
async fn follow(session: &mut Session, stop: &Stop) -> Result<(), FetchError> {
    let (mut pause, mut doubt) = (Pause::default(), Doubt::default());
    let mut lag = Lag::default();
    loop {
        // A step may be dropped anywhere between its commits.
        let wait = match stop.or_stopped(session.step()).await.unwrap_or(Err(FetchError::Stopped)) {
            Ok(Step::Done) | Err(FetchError::Stopped) => return Ok(()),
            Ok(step) => {
                (pause, doubt) = (Pause::default(), Doubt::default());
                if step == Step::Advanced {
                    continue;
                }
                lag.log(&session.node.client, session.node.head, &mut session.reporter).await;
                POLL
            }
            Err(error) => {
                session.wait_out(error, &mut doubt)?;
                pause.next()
            }
        };
        session.wait(wait).await;
    }
}
