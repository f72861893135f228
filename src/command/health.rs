//! `spyhop health`: one line, for the health check of a container that holds geth and a writer.
//!
//! Unhealthy is what a restart may mend: a geth that does not answer, a writer that is gone. Data that lag behind, wait for space or
//! lack a range are no reason to restart a node, and so are told, but unhealthy only with `--strict`.

use super::print;
use crate::geth::{Client, Error, Limits, Tag, check_socket};
use crate::store::is_locked;
use crate::text::shown;
use crate::watch::{Heartbeat, contiguity, now};
use anyhow::{Context, Result};
use clap::Args;
use clap::builder::BoolishValueParser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `spyhop health`.
#[derive(Args, Debug)]
pub struct Health {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// geth's IPC socket [default: the writer's].
    #[arg(long, value_name = "PATH", env = "SPYHOP_IPC")]
    ipc: Option<PathBuf>,
    /// Data that lag or lack something are unhealthy too.
    #[arg(long, env = "SPYHOP_STRICT", value_parser = BoolishValueParser::new())]
    strict: bool,
    /// How many blocks the data may be behind the node.
    #[arg(long, value_name = "BLOCKS", env = "SPYHOP_LAG_MAX", default_value_t = 32)]
    lag_max: u64,
    /// How old the node's head may be, in seconds.
    #[arg(long, value_name = "SECONDS", env = "SPYHOP_NODE_LAG_MAX", default_value_t = 300)]
    node_lag_max: u64,
}

/// How long geth may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A heartbeat comes with every step, several a second, and every five seconds while one takes its time.
const HEARTBEAT_AGE_MAX_S: u64 = 120;

/// A step that takes so long is worth a word; one that takes so much longer will not end.
const BUSY_S: u64 = 120;
const BUSY_MAX_S: u64 = 3_600;

/// How it is.
enum Finding {
    Healthy(String),
    Degraded(String),
    Unhealthy(String),
}

/// Runs the command: exit code 1 where it is unhealthy.
pub fn run(arguments: &Health) -> Result<ExitCode> {
    if let Some(ipc) = &arguments.ipc {
        check_socket(ipc)?;
    }
    let heartbeat = Heartbeat::read(&arguments.data);
    let finding = match geth_answers(arguments, heartbeat.as_ref())? {
        Err(error) => Finding::Unhealthy(format!("geth does not answer: {:#}", anyhow::Error::new(error))),
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

/// Whether geth answers on its socket: the one the writer uses, or else the one that is named.
fn geth_answers(arguments: &Health, heartbeat: Option<&Heartbeat>) -> Result<Result<(), Error>> {
    let used = heartbeat.map(|heartbeat| heartbeat.ipc.as_path()).filter(|ipc| *ipc != Path::new(""));
    let ipc = used.or(arguments.ipc.as_deref()).context("no socket is known: name it with --ipc")?;
    let client =
        Client::new(ipc, Limits { connections: 1, in_flight_max: 1, reply_timeout: ANSWER, ..Limits::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(client.head(Tag::Latest)).map(drop))
}

/// How the data are, geth being there.
fn data(arguments: &Health, heartbeat: Option<Heartbeat>) -> Finding {
    let Some(heartbeat) = heartbeat else {
        return Finding::Unhealthy("no sign of a writer yet: see its log".to_owned());
    };
    let last_words = format!("its last words: {}", heartbeat.state);
    let Some(age_s) = heartbeat.age_s() else {
        return Finding::Unhealthy(format!("the writer's last sign is of a time that has not come yet; {last_words}"));
    };
    if heartbeat.is_of_this_boot() && is_locked(&arguments.data) == Some(false) {
        return Finding::Unhealthy(format!("the writer is gone, its last sign was {age_s} s ago; {last_words}"));
    }
    if age_s > HEARTBEAT_AGE_MAX_S {
        return Finding::Unhealthy(format!("no sign of the writer for {age_s} s; {last_words}"));
    }
    let Heartbeat { state, head, tip, lag_blocks, node_lag_s, unhealthy, committed_at, busy_s, .. } = heartbeat;
    if busy_s > BUSY_MAX_S {
        return Finding::Unhealthy(format!("the writer has been at one step for {busy_s} s; {last_words}"));
    }
    if let Some(reason) = unhealthy {
        return Finding::Degraded(reason);
    }
    if let Err(error) = contiguity::check(&arguments.data) {
        return Finding::Degraded(format!("{error:#}"));
    }
    if busy_s > BUSY_S {
        return Finding::Degraded(format!("the writer has been at one step for {busy_s} s; {last_words}"));
    }
    let (Some(head), Some(lag_blocks)) = (head, lag_blocks) else {
        return Finding::Degraded(state);
    };
    let committed = match committed_at {
        Some(at) => format!("the last commit was {} s ago", now().saturating_sub(at)),
        None => "nothing was committed since the start".to_owned(),
    };
    if lag_blocks > arguments.lag_max {
        return Finding::Degraded(format!("{lag_blocks} blocks behind the node's {head}, {committed}: {state}"));
    }
    if let Some(age_s) = node_lag_s.filter(|age_s| *age_s > arguments.node_lag_max) {
        return Finding::Degraded(format!("the node's head {head} is {age_s} s old, {committed}: {state}"));
    }
    let tip = tip.map_or("no block".to_owned(), |tip| format!("block {tip}"));
    let age = node_lag_s.map(|age_s| format!(", whose head is {age_s} s old")).unwrap_or_default();
    Finding::Healthy(format!("{tip}, {lag_blocks} behind the node{age}; {committed}"))
}
