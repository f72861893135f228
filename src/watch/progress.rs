//! What the operator sees: a line per committed step or a progress bar, and the heartbeat that `spyhop status` reads.

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// `.spyhop/heartbeat`: the writer's state after its last step.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Heartbeat {
    /// The writer's process.
    pub process: u32,
    /// When it was written, seconds since 1970.
    pub time: u64,
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
    /// Blocks between the node's head and the last block held.
    pub lag_blocks: Option<u64>,
    /// Age of the node's head, in seconds: the node's own lag.
    pub node_lag_s: Option<u64>,
    /// What is wrong, if anything is.
    pub unhealthy: Option<String>,
    /// geth's socket.
    #[serde(default)]
    pub ipc: PathBuf,
    /// When a step was committed last, seconds since 1970; `None` where none was since the start.
    #[serde(default)]
    pub committed_at: Option<u64>,
}

impl Heartbeat {
    /// The one on the volume at `root`; `None` where no writer was there yet.
    pub fn read(root: &Path) -> Result<Option<Self>> {
        match std::fs::read(root.join(".spyhop/heartbeat")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).context("failed to read the heartbeat"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("failed to read the heartbeat"),
        }
    }

    /// That of a writer which has no node yet.
    pub fn waiting(state: &str, ipc: &Path) -> Self {
        Self {
            process: std::process::id(),
            time: now(),
            state: state.to_owned(),
            ipc: ipc.to_owned(),
            ..Self::default()
        }
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Says what happens, once.
#[derive(Debug)]
pub struct Teller {
    bar: Option<ProgressBar>,
    /// What was said last; the same is not said again.
    said: String,
    /// When a step was committed last, seconds since 1970.
    committed_at: Option<u64>,
}

impl Teller {
    /// A bar where standard error is a terminal, else lines.
    pub fn new() -> Self {
        let style = "{prefix} [{bar:40}] {human_pos}/{human_len} blocks  {per_sec}  ETA {eta}  {msg}";
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(style).expect("the template is constant");
            ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_prefix("spyhop")
        });
        Self { bar, said: String::new(), committed_at: None }
    }

    /// Says a state when it is entered, and not again until another was said.
    pub fn say(&mut self, state: String) {
        if self.said != state {
            self.above_bar(|| tracing::info!("{state}"));
            if let Some(bar) = &self.bar {
                bar.set_message(state.clone());
            }
            self.said = state;
        }
    }

    /// What was said last.
    pub fn state(&self) -> &str {
        &self.said
    }

    /// When a step was committed last, seconds since 1970.
    pub fn committed_at(&self) -> Option<u64> {
        self.committed_at
    }

    /// Tells of a committed step: a log line, or the bar moved.
    pub fn step(&mut self, what: &str, position: Position) {
        self.said = what.to_owned();
        self.committed_at = Some(now());
        let Position { first, tip, head, lag, node_lag_s } = position;
        match &self.bar {
            Some(bar) => {
                bar.set_length(head.saturating_sub(first) + 1);
                bar.set_position((tip + 1).saturating_sub(first));
                bar.set_message(format!("lag {lag} blocks, node {node_lag_s} s: {what}"));
            }
            None => tracing::info!(tip, head, lag_blocks = lag, node_lag_s, "{what}"),
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
pub struct Position {
    /// The first block wanted.
    pub first: u64,
    /// The last block held without a gap.
    pub tip: u64,
    /// The node's head.
    pub head: u64,
    /// Blocks between the two.
    pub lag: u64,
    /// Age of the node's head, in seconds.
    pub node_lag_s: u64,
}
