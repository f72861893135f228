//! Plain files of the sealed ranges, for whoever wants to copy them elsewhere.
//!
//! A file has the rows of one table for a *slice* of the chain: a UTC day, or an aligned run of
//! blocks. Slices depend on the chain alone, not on how the volume's ranges have merged, so files
//! never overlap, and the next export continues the last one. Only sealed blocks are exported,
//! which are final: rows that have been written are never taken back by a reorganisation.
//!
//! ```text
//! DIR/export.json             what this export is: chain, format, partition
//! DIR/files.jsonl             one line per finished file: blocks, rows, bytes, gaps
//! DIR/coverage.csv            what is in the files and what is missing, with the reason
//! DIR/TABLE/SLICE.csv         the rows
//! DIR/.unfinished/            cleared at each start
//! ```
//!
//! A file is finished once its line is in `files.jsonl`, which is written after the file has been
//! renamed into place. So an export that is killed anywhere is continued by the next, and no half
//! file ever has a final name.
//!
//! - `slices`: which blocks make a file.
//! - `gaps`: which rows of a slice are missing.
//! - `target`: the directory, its identity and its lock.
//! - `journal`: `files.jsonl`.
//! - `work`: what is to be written, and what is refused.
//! - `format`, `file`: how one file is written.
//! - `coverage`: writes the file of that name.
//! - `progress`: the progress bar, or log lines.

mod coverage;
mod file;
mod format;
mod gaps;
mod journal;
mod progress;
mod slices;
mod target;
mod work;

pub(crate) use format::Format;
pub(crate) use slices::Partition;
pub(crate) use work::tables;

use crate::error::Refused;
use crate::rows::{LAYOUT, Selection};
use crate::stop::{Stop, Stopped};
use crate::store::{CheckedFiles, Identity, Range, read_chain, read_ranges};
use anyhow::{Context, Result, ensure};
use file::Source;
use journal::Journal;
use progress::Progress;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use target::{Shape, Target};
use work::{Item, Work};

/// Files written at once, at most: each needs up to 200 MB of memory.
const WORKERS_MAX: usize = 4;

/// What to export.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The volume.
    pub data: PathBuf,
    /// The directory of the files.
    pub to: PathBuf,
    /// How rows are written.
    pub format: Format,
    /// The blocks of a file.
    pub partition: Partition,
    /// The tables; `None` for all that can be exported.
    pub tables: Option<Selection>,
    /// First block; `None` for the first sealed one.
    pub from: Option<u64>,
    /// Last block; `None` for the last sealed one.
    pub until: Option<u64>,
    /// Whether slices are written whose blocks are not all sealed.
    pub unfinished: bool,
    /// Whether what is there is written if some requested rows are missing.
    pub allow_gaps: bool,
}

/// Writes the files that are missing. A signal ends it after what was begun is dropped.
///
/// # Errors
/// If the target is refused, requested rows are missing, a file of the volume is damaged, or the
/// target cannot be written.
pub(crate) fn run(settings: &Settings) -> Result<()> {
    let data = settings.data.canonicalize().with_context(|| {
        format!("no data directory: `{}`; `spyhop watch` creates it", settings.data.display())
    })?;
    let (Some(chain), ranges) = (read_chain(&data)?, read_ranges(&data)?) else {
        return Err(nothing(&data));
    };
    if ranges.is_empty() {
        return Err(nothing(&data));
    }
    let stop = Stop::on_signals()?;
    let target = Target::open(&data, &settings.to, shape(settings, chain.identity))?;
    let mut journal = Journal::open(&target)?;
    journal.drop_replaced(&target, &data, &ranges)?;
    let work = Work::plan(settings, &data, &ranges, &journal)?;
    work.warn();
    let export = Export { data: &data, target: &target, format: settings.format, stop: &stop };
    let written = export.write_all(&work, &ranges, &mut journal);
    // Also after a failure: it describes the files that are there.
    let described = coverage::write(&target, settings, &work, &journal);
    match written {
        Err(error) if error.is::<Stopped>() => described,
        written => written.and(described),
    }
}

fn nothing(data: &Path) -> anyhow::Error {
    let what = format!("no range is sealed yet: nothing to export in `{}`", data.display());
    Refused::new(what, "`spyhop status` shows how far `watch` or `backfill` is").into()
}

fn shape(settings: &Settings, chain: Identity) -> Shape {
    Shape {
        chain,
        format: settings.format,
        partition: settings.partition,
        layout: LAYOUT,
        spyhop_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

struct Export<'a> {
    data: &'a Path,
    target: &'a Target,
    format: Format,
    stop: &'a Stop,
}

impl Export<'_> {
    /// Writes files on several threads until there are no more, or one fails.
    fn write_all(&self, work: &Work, ranges: &[Range], journal: &mut Journal) -> Result<()> {
        let progress = Progress::new(work);
        let checked = CheckedFiles::default();
        let source = Source { root: self.data, checked: &checked, stop: self.stop };
        let (next, journal) = (AtomicUsize::new(0), Mutex::new(journal));
        let failed = Mutex::new(None);
        let has_failed = || failed.lock().expect("nothing panics while holding it").is_some();
        let worker = || {
            while !has_failed() {
                let Some(item) = work.items.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    break;
                };
                let written = self.write(item, &source, ranges, &progress).and_then(|record| {
                    let rows = record.rows;
                    let mut journal = journal.lock().expect("nothing panics while holding it");
                    journal.append(record).map(|()| rows)
                });
                match written {
                    Ok(rows) => progress.finished(item, rows),
                    Err(error) => {
                        let mut failed = failed.lock().expect("nothing panics while holding it");
                        failed.get_or_insert(error);
                    }
                }
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..workers.min(WORKERS_MAX).min(work.items.len()) {
                scope.spawn(worker);
            }
        });
        progress.end();
        let failed = failed.into_inner().expect("nothing panics while holding it");
        failed.map_or(Ok(()), Err)
    }

    /// Writes one file. If a range of it has been merged away meanwhile, the one that replaced it
    /// is read instead.
    fn write(
        &self,
        item: &Item,
        source: &Source,
        ranges: &[Range],
        progress: &Progress,
    ) -> Result<journal::Record> {
        let mut renewed;
        let mut ranges = ranges;
        loop {
            let of_item = item.ranges(ranges);
            let written = file::write(self.target, self.format, item, source, &of_item, progress);
            let is_there = |range: &&Range| self.data.join(&range.path).exists();
            match written {
                Err(error) if !error.is::<Stopped>() && !of_item.iter().all(is_there) => {
                    tracing::debug!(error = %error, "a range was replaced, reading again");
                    renewed = read_ranges(self.data)?;
                    ranges = &renewed;
                    ensure!(
                        item.is_in(ranges),
                        "blocks of `{}` were repaired or removed meanwhile: start it again",
                        item.slice.name
                    );
                }
                written => return written,
            }
        }
    }
}
