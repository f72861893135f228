//! Progress of building: the rates of its sources, and when it will be done.

use super::meter::{Counter, Meter};
use crate::clock::process_time;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How often the progress of building is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Progress of building.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Building {
    /// Sealed blocks of those requested, in thousandths.
    pub done_permille: u64,
    /// Blocks still to be read.
    pub blocks_left: u64,
    /// Seconds until all are read, at the present rate; `None` without one.
    pub eta_s: Option<u64>,
    /// The sources used lately.
    pub sources: Vec<SourceRate>,
}

/// The rate of one source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct SourceRate {
    /// `freezer` or `node`.
    pub source: String,
    /// Blocks so far in this run.
    pub blocks: u64,
    /// Blocks per second, lately.
    pub blocks_s: u64,
    /// Kilobytes read per second, lately: as stored in the freezer, or of RLP from the node.
    pub kb_s: u64,
}

/// The rates of building, from one log line to the next.
#[derive(Debug)]
pub(super) struct Rates {
    started: Instant,
    at: Instant,
    /// Blocks and bytes of each source at the last measurement.
    before: [(u64, u64); 2],
    rates: Vec<SourceRate>,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), at: Instant::now(), before: [(0, 0); 2], rates: Vec::new() }
    }

    /// Measures again if it is time; returns whether it was.
    pub(super) fn measure(&mut self, meter: &Meter) -> bool {
        let elapsed = self.at.elapsed();
        if elapsed < LOG_EVERY {
            return false;
        }
        let now = [("freezer", &meter.freezer), ("node", &meter.node)]
            .map(|(name, counter)| (name, Counter::read(counter)));
        let rate =
            |now: u64, before: u64| ((now - before) as f64 / elapsed.as_secs_f64()).round() as u64;
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

    /// Logs the totals of the whole run: blocks of each source, and CPU time.
    pub(super) fn log_total(&self, meter: &Meter) {
        let seconds = self.started.elapsed().as_secs_f64();
        let rounded = |value: f64| (value * 10.0).round() / 10.0;
        for (source, counter) in [("freezer", &meter.freezer), ("node", &meter.node)] {
            let (blocks, bytes) = counter.read();
            if blocks > 0 {
                let (blocks_s, mb_s) =
                    (rounded(blocks as f64 / seconds), rounded(bytes as f64 / 1e6 / seconds));
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

    /// Progress, with this many blocks sealed and left.
    pub(super) fn building(&self, sealed: u64, left: u64) -> Building {
        let blocks_s: u64 = self.rates.iter().map(|rate| rate.blocks_s).sum();
        Building {
            done_permille: sealed * 1_000 / (sealed + left).max(1),
            blocks_left: left,
            eta_s: left.checked_div(blocks_s),
            sources: self.rates.clone(),
        }
    }
}
