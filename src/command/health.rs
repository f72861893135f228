//! `spyhop health`: one line, for the health check of a container that runs geth and a writer.
//!
//! Unhealthy means what a restart may fix: geth does not answer, or the writer is gone. Lag, a full
//! volume and missing ranges are no reason to restart a node: they are reported, and make it
//! unhealthy only with `--strict`.

use super::print;
use crate::clock::now;
use crate::geth::{Client, Error, Limits, Tag, check_socket};
use crate::store::is_locked;
use crate::text::shown;
use crate::watch::{Heartbeat, contiguity};
use anyhow::{Context, Result};
use clap::Args;
use clap::builder::BoolishValueParser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `spyhop health`.
#[derive(Args, Debug)]
pub(super) struct Health {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// geth's IPC socket [default: the writer's].
    #[arg(long, value_name = "PATH", env = "SPYHOP_IPC")]
    ipc: Option<PathBuf>,
    /// Lag and missing data count as unhealthy too.
    #[arg(long, env = "SPYHOP_STRICT", value_parser = BoolishValueParser::new())]
    strict: bool,
    /// How many blocks spyhop may be behind the node.
    #[arg(long, value_name = "BLOCKS", env = "SPYHOP_LAG_MAX", default_value_t = 32)]
    lag_max: u64,
    /// How old the node's head may be, in seconds.
    #[arg(long, value_name = "SECONDS", env = "SPYHOP_NODE_LAG_MAX", default_value_t = 300)]
    node_lag_max: u64,
}

/// How long geth may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The heartbeat is written with every step, several times a second, and every five seconds during
/// a long one.
const HEARTBEAT_AGE_MAX_S: u64 = 120;

/// A step that takes this long is degraded; one that takes the maximum age longer will not end.
const BUSY_S: u64 = 120;
const BUSY_MAX_S: u64 = 3_600;

/// The verdict, with its reason.
enum Finding {
    Healthy(String),
    Degraded(String),
    Unhealthy(String),
}

/// Runs the command: exit code 1 if it is unhealthy.
pub(super) fn run(arguments: &Health) -> Result<ExitCode> {
    if let Some(ipc) = &arguments.ipc {
        check_socket(ipc)?;
    }
    let heartbeat = Heartbeat::read(&arguments.data);
    let finding = match geth_answers(arguments, heartbeat.as_ref())? {
        Err(error) => {
            Finding::Unhealthy(format!("geth does not answer: {:#}", anyhow::Error::new(error)))
        }
        Ok(()) => data(arguments, heartbeat),
    };
    let (word, reason, code) = match finding {
        Finding::Healthy(reason) => ("healthy", reason, 0),
        Finding::Degraded(reason) => ("degraded", reason, u8::from(arguments.strict)),
        Finding::Unhealthy(reason) => ("unhealthy", reason, 1),
    };
    print(&format!("{word}: {}\n", shown(&reason)))?;
    Ok(ExitCode::from(code))
}

/// Whether geth answers on its socket: the one the writer uses, or else the one in the arguments.
fn geth_answers(arguments: &Health, heartbeat: Option<&Heartbeat>) -> Result<Result<(), Error>> {
    let used =
        heartbeat.map(|heartbeat| heartbeat.ipc.as_path()).filter(|ipc| *ipc != Path::new(""));
    let ipc =
        used.or(arguments.ipc.as_deref()).context("the socket is unknown: give it with --ipc")?;
    let client = Client::new(
        ipc,
        Limits { connections: 1, in_flight_max: 1, reply_timeout: ANSWER, ..Limits::default() },
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(client.head(Tag::Latest)).map(drop))
}

/// The state of the writer and of the data, once geth has answered.
fn data(arguments: &Health, heartbeat: Option<Heartbeat>) -> Finding {
    let Some(heartbeat) = heartbeat else {
        return Finding::Unhealthy("no heartbeat of a writer yet: see its log".to_owned());
    };
    let last_state = format!("its last state: {}", heartbeat.state);
    let Some(age_s) = heartbeat.age_s() else {
        return Finding::Unhealthy(format!(
            "the writer's last heartbeat is in the future; {last_state}"
        ));
    };
    if heartbeat.is_of_this_boot() && is_locked(&arguments.data) == Some(false) {
        return Finding::Unhealthy(format!(
            "the writer is gone, its last heartbeat was {age_s} s ago; {last_state}"
        ));
    }
    if age_s > HEARTBEAT_AGE_MAX_S {
        return Finding::Unhealthy(format!(
            "no heartbeat of the writer for {age_s} s; {last_state}"
        ));
    }
    let Heartbeat {
        state, head, tip, lag_blocks, node_lag_s, unhealthy, committed_at, busy_s, ..
    } = heartbeat;
    if busy_s > BUSY_MAX_S {
        return Finding::Unhealthy(format!(
            "the writer has been at one step for {busy_s} s; {last_state}"
        ));
    }
    if let Some(reason) = unhealthy {
        return Finding::Degraded(reason);
    }
    if let Err(error) = contiguity::check(&arguments.data) {
        return Finding::Degraded(format!("{error:#}"));
    }
    if busy_s > BUSY_S {
        return Finding::Degraded(format!(
            "the writer has been at one step for {busy_s} s; {last_state}"
        ));
    }
    let (Some(head), Some(lag_blocks)) = (head, lag_blocks) else {
        return Finding::Degraded(state);
    };
    let committed = match committed_at {
        Some(at) => format!("the last commit was {} s ago", now().saturating_sub(at)),
        None => "nothing was committed since the start".to_owned(),
    };
    if lag_blocks > arguments.lag_max {
        return Finding::Degraded(format!(
            "{lag_blocks} blocks behind the node's {head}, {committed}: {state}"
        ));
    }
    if let Some(age_s) = node_lag_s.filter(|age_s| *age_s > arguments.node_lag_max) {
        return Finding::Degraded(format!(
            "the node's head {head} is {age_s} s old, {committed}: {state}"
        ));
    }
    let tip = tip.map_or("no block".to_owned(), |tip| format!("block {tip}"));
    let age = node_lag_s.map(|age_s| format!(", whose head is {age_s} s old")).unwrap_or_default();
    Finding::Healthy(format!("{tip}, {lag_blocks} behind the node{age}; {committed}"))
}
