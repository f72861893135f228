//! What the operator sees: a progress bar on a terminal, otherwise a line per file.

use super::work::{Item, Work};
use crate::log;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Frames per second of the progress bar, at most.
const FRAMES_S: u8 = 20;

/// Rows written so far.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    /// Rows that are expected, and rows of finished files.
    all: u64,
    done: AtomicU64,
    files: AtomicU64,
}

impl Progress {
    pub(super) fn new(work: &Work) -> Self {
        let all = work.items.iter().map(|item| item.rows).sum();
        let style = "spyhop [{bar:40}] {human_pos}/{human_len} rows  {per_sec}  ETA {eta}  {msg}";
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(style).expect("the template is constant");
            let screen =
                ProgressDrawTarget::term_like_with_hz(Box::new(log::Screen::default()), FRAMES_S);
            ProgressBar::with_draw_target(Some(all), screen).with_style(style.progress_chars("=> "))
        });
        Self { bar, started: Instant::now(), all, done: 0.into(), files: 0.into() }
    }

    /// Rows were written to a file that is not finished.
    pub(super) fn add(&self, rows: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(rows);
        }
    }

    /// A file is finished, with this many rows.
    pub(super) fn finished(&self, item: &Item, rows: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        let done = self.done.fetch_add(item.rows, Ordering::Relaxed) + item.rows;
        let (table, slice) = (item.table.name, &item.slice.name);
        match &self.bar {
            Some(bar) => {
                // Copied files were not counted row by row.
                bar.set_position(bar.position().max(done));
                bar.set_message(format!("{table} {slice}"));
            }
            None => {
                let left = self.started.elapsed().as_secs() as u128 * u128::from(self.all - done);
                let eta_s = left.checked_div(u128::from(done)).unwrap_or(0) as u64;
                let done_percent = (done as u128 * 100 / u128::from(self.all.max(1))) as u64;
                tracing::info!(table, slice, rows, done_percent, eta_s, "written");
            }
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = (self.started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        let files = self.files.load(Ordering::Relaxed);
        tracing::info!(files, rows = self.done.load(Ordering::Relaxed), seconds, "exported");
    }
}
