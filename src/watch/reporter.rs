//! What the operator sees: a line per committed step or a progress bar, and the heartbeat.

use super::heartbeat::{Heartbeat, Pulse};
use super::progress::{Building, SourceRate};
use crate::clock::now;
use crate::log;
use crate::store::Store;
use crate::text::shown;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;

/// Frames per second of the progress bar, at most.
const FRAMES_S: u8 = 20;

/// Logs each state once, or shows it in a progress bar.
#[derive(Debug)]
pub(super) struct Reporter {
    /// The first block of the run that the previous writer left.
    run_first_before: Option<u64>,
    bar: Option<ProgressBar>,
    /// The last logged state; it is not logged twice.
    logged: String,
    /// Time of the last committed step, in seconds since 1970.
    committed_at: Option<u64>,
    pulse: Arc<Pulse>,
}

impl Reporter {
    /// A progress bar if standard error is a terminal, otherwise log lines.
    pub(super) fn new(store: Arc<Store>) -> Self {
        let style =
            "{prefix} [{bar:40}] {human_pos}/{human_len} blocks  {per_sec}  ETA {eta}  {msg}";
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(style).expect("the template is constant");
            let screen =
                ProgressDrawTarget::term_like_with_hz(Box::new(log::Screen::default()), FRAMES_S);
            ProgressBar::with_draw_target(Some(0), screen)
                .with_style(style.progress_chars("=> "))
                .with_prefix("spyhop")
        });
        let before = Heartbeat::read(store.root());
        let run_first_before = before.and_then(|heartbeat| heartbeat.run_first);
        Self {
            bar,
            logged: String::new(),
            committed_at: None,
            pulse: Pulse::start(store),
            run_first_before,
        }
    }

    /// The first block of the run, by the previous writer's last heartbeat.
    pub(super) fn run_first_before(&self) -> Option<u64> {
        self.run_first_before
    }

    /// Writes the heartbeat, and repeats it until the next one. Keeps the first block of the run if
    /// the new one lacks it.
    pub(super) fn beat(&self, heartbeat: Heartbeat) -> Result<()> {
        self.pulse.beat(Heartbeat {
            run_first: heartbeat.run_first.or(self.run_first_before),
            ..heartbeat
        })
    }

    /// Logs a state when it is entered, and not again until another was logged.
    pub(super) fn log_state(&mut self, state: String) {
        if self.logged != state {
            self.above_bar(|| tracing::info!("{state}"));
            if let Some(bar) = &self.bar {
                bar.set_message(shown(&state).into_owned());
            }
            self.logged = state;
        }
    }

    pub(super) fn state(&self) -> &str {
        &self.logged
    }

    /// Time of the last committed step, in seconds since 1970.
    pub(super) fn committed_at(&self) -> Option<u64> {
        self.committed_at
    }

    /// Reports a committed step: a log line, or the progress bar moves.
    pub(super) fn step(&mut self, what: &str, position: Position) {
        self.logged = what.to_owned();
        self.committed_at = Some(now());
        let (done, all, message) = match position {
            Position::Head { first, tip, head, lag, node_lag_s } => {
                let age = node_lag_s.map(|age_s| format!(", node {age_s} s")).unwrap_or_default();
                let message = format!("lag {lag} blocks{age}: {what}");
                (
                    (tip + 1).saturating_sub(first),
                    head.saturating_sub(first).saturating_add(1),
                    message,
                )
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
            (None, Position::History { sealed, wanted }) => {
                tracing::info!(sealed, wanted, "{what}")
            }
        }
    }

    /// Logs progress of building.
    pub(super) fn building(&mut self, building: &Building) {
        let done = building.done_permille as f64 / 10.0;
        let eta = building.eta_s.map_or("unknown".to_owned(), |eta| format!("{eta} s"));
        for SourceRate { source, blocks, blocks_s, kb_s } in &building.sources {
            let mb_s = *kb_s as f64 / 1_000.0;
            match &self.bar {
                Some(bar) => bar.set_message(format!(
                    "{source} {blocks_s} blocks/s, {mb_s:.1} MB/s, {done} %, ETA {eta}"
                )),
                None => tracing::info!(
                    source,
                    blocks,
                    blocks_s,
                    mb_s,
                    done_percent = done,
                    eta,
                    "building"
                ),
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
pub(super) enum Position {
    /// On the way to the node's head.
    Head {
        /// The first requested block.
        first: u64,
        /// The last stored block.
        tip: u64,
        head: u64,
        /// Blocks between the two.
        lag: u64,
        /// Age of the node's head in seconds, if it has one.
        node_lag_s: Option<u64>,
    },
    /// On the way through history.
    History {
        /// Sealed blocks of those requested.
        sealed: u64,
        /// Requested blocks that can be sealed.
        wanted: u64,
    },
}
