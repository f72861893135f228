//! One cycle: what is in the log, what is on the volume, and the versions that make the one the
//! other.

use super::action::Add;
use super::file_name::FileName;
use super::plan::{Change, Held, Kind, batches, changes, intervals, rows_of};
use super::small::{self, Blocks};
use super::table_log::{State, TableLog};
use super::target::Target;
use super::version::{Outcome, Subject, describe, register, replace};
use super::volume::{Source, Volume, told};
use super::{Settings, now_ms, retention, schema};
use crate::error::{Failed, Refused};
use crate::rows::{Selection, Table};
use crate::stop::{Stop, Stopped};
use crate::store::{self, Identity, check_file_watched, read_chain};
use anyhow::{Error, Result};
use indicatif::ProgressBar;
use rayon::prelude::*;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a version's files, at most, unless one range has more: so much is checked again after a
/// kill.
const VERSION_BYTES: u64 = 16 << 30;

/// How long to wait before a cycle that met a change.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// A lake, and what is known of it.
pub(super) struct Lake<'a> {
    settings: &'a Settings,
    target: &'a dyn Target,
    stop: &'a Stop,
    bar: &'a ProgressBar,
    /// The chain tables that are asked for.
    tables: Vec<(&'static Table, TableLog<'a>)>,
    /// Those that are not: what the lake has of them stays as it is.
    others: Vec<(&'static Table, TableLog<'a>)>,
    /// `labels` and `coverage`.
    small: Vec<(&'static Table, TableLog<'a>)>,
    /// What [`Self::listed`] returns.
    listed: Option<Vec<PathBuf>>,
}

/// A table's changes.
type Changes = Vec<Change<Add, Source>>;

impl<'a> Lake<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        target: &'a dyn Target,
        stop: &'a Stop,
        bar: &'a ProgressBar,
    ) -> Self {
        let log = |table: &'static Table| (table, TableLog::new(target, table.name));
        let tables = settings.tables.tables().map(log).collect();
        let others = Selection::ALL.without(settings.tables).tables().map(log).collect();
        let small = small::TABLES.into_iter().map(log).collect();
        Self { settings, target, stop, bar, tables, others, small, listed: None }
    }

    /// Makes the lake what the volume is.
    ///
    /// # Errors
    /// [`Stopped`], and if a file is damaged, or something cannot be read or written.
    pub(super) fn update(&mut self) -> Result<()> {
        while self.cycle()? == Outcome::Again {
            tracing::debug!("the volume or the lake changed meanwhile");
            thread::sleep(AGAIN_AFTER);
        }
        Ok(())
    }

    /// The directories of the sealed ranges that the lake was last made of; `None` if they could
    /// not be listed.
    pub(super) fn listed(&self) -> Option<&[PathBuf]> {
        self.listed.as_deref()
    }

    fn cycle(&mut self) -> Result<Outcome> {
        self.listed = None;
        self.stop.check()?;
        let data = &self.settings.data;
        let Some(chain) = read_chain(data)? else {
            let what = format!("`{}` has no data of spyhop", data.display());
            return Err(Refused::new(what, "give the data directory of `spyhop watch`").into());
        };
        let chain = chain.identity;
        // Before the ranges are listed: what another process commits from now on is a conflict.
        for (table, log) in self.tables.iter_mut().chain(&mut self.small) {
            log.refresh()?;
            check_chain(self.target, table, log.state(), chain)?;
        }
        let volume = Volume::list(data)?;
        self.listed = Some(volume.directories());
        let mut planned = Vec::new();
        for (table, log) in &self.tables {
            planned.push(changes(&held(self.target, table, log.state())?, &volume.files(table)));
        }
        let is_loss = |change: &Change<Add, Source>| change.kind() == Kind::Loss;
        // The listing may have missed a range that was replaced while it ran.
        if planned.iter().flatten().any(is_loss) {
            if !volume.is_unchanged()? {
                return Ok(Outcome::Again);
            }
            if volume.is_empty() {
                let what = format!(
                    "`{}` has no sealed range, and the lake has some: is the disk of `chain` \
                    mounted?",
                    data.display()
                );
                let hint = "if they are gone for good, delete the lake";
                return Err(Failed::new(what, hint).into());
            }
        }
        if self.register(&volume, chain, planned)? == Outcome::Again
            || self.describe(chain)? == Outcome::Again
            || self.replace_small(&volume, chain)? == Outcome::Again
        {
            return Ok(Outcome::Again);
        }
        let now = now_ms();
        for (table, log) in self.tables.iter_mut().chain(&mut self.small) {
            self.stop.check()?;
            if log.state().version.is_some() {
                retention::unlink(self.target, log, table.name, self.settings.retention, now)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Registers the changes of each table, in batches of blocks.
    fn register(
        &mut self,
        volume: &Volume,
        chain: Identity,
        mut planned: Vec<Changes>,
    ) -> Result<Outcome> {
        let bytes = |change: &Change<Add, Source>| {
            change.adds.iter().map(|held| held.file.manifest.bytes).sum::<u64>()
        };
        let sizes =
            planned.iter().flatten().map(|change| (change.first, change.last, bytes(change)));
        let sizes: Vec<_> = sizes.collect();
        self.bar.reset();
        self.bar.set_length(sizes.iter().map(|(_, _, bytes)| bytes).sum());
        for (_, last) in batches(sizes, VERSION_BYTES) {
            let batch = planned.iter_mut().map(|changes| {
                let count = changes.partition_point(|change| change.first <= last);
                changes.drain(..count).collect::<Vec<_>>()
            });
            let batch: Vec<Changes> = batch.collect();
            if self.register_batch(volume, chain, &batch)? == Outcome::Again {
                return Ok(Outcome::Again);
            }
        }
        Ok(Outcome::Done)
    }

    /// Checks the files of a batch, and commits one version of each table that has changes.
    fn register_batch(
        &mut self,
        volume: &Volume,
        chain: Identity,
        batch: &[Changes],
    ) -> Result<Outcome> {
        let started = Instant::now();
        if check(volume, &self.tables, batch, self.stop, self.bar)? == Outcome::Again {
            return Ok(Outcome::Again);
        }
        let (checked, started) = (started.elapsed(), Instant::now());
        let (target, remembered) = (self.target, self.settings.retention);
        let stop = self.stop;
        let outcomes: Vec<Outcome> = self
            .tables
            .par_iter_mut()
            .zip(batch)
            .filter(|(_, changes)| !changes.is_empty())
            .map(|((table, log), changes)| {
                stop.check()?;
                report_losses(table, changes);
                let subject = Subject { table, chain };
                let outcome = register(target, log, subject, volume, changes)?;
                log.checkpoint(ms_before(remembered))?;
                Ok(outcome)
            })
            .collect::<Result<_>>()?;
        if !outcomes.is_empty() {
            let files: usize = batch.iter().flatten().map(|change| change.adds.len()).sum();
            let ms = |time: Duration| time.as_millis() as u64;
            let (checked_ms, registered_ms) = (ms(checked), ms(started.elapsed()));
            tracing::info!(files, checked_ms, registered_ms, "lake updated");
        }
        Ok(worst(outcomes))
    }

    /// Commits the schemas and descriptions that have changed.
    fn describe(&mut self, chain: Identity) -> Result<Outcome> {
        let subjects = self.tables.iter_mut().chain(&mut self.small);
        let described = subjects.map(|(table, log)| describe(log, Subject { table, chain }));
        Ok(worst(described.collect::<Result<Vec<_>>>()?))
    }

    /// Replaces `labels` and `coverage` by those that are published, if they have changed.
    fn replace_small(&mut self, volume: &Volume, chain: Identity) -> Result<Outcome> {
        let mut blocks = Vec::new();
        for (_, log) in &mut self.others {
            log.refresh()?;
        }
        for (table, log) in self.tables.iter().chain(&self.others) {
            let names: Vec<_> =
                held(self.target, table, log.state())?.into_iter().map(|held| held.name).collect();
            let (table, held) = (table.name, intervals(names.iter()));
            blocks.push(Blocks { table, held, complete: volume.complete(table) });
        }
        let Some(rows) = small::rows(volume.root(), &blocks)? else { return Ok(Outcome::Done) };
        let mut outcomes = Vec::new();
        for ((table, log), rows) in self.small.iter_mut().zip(rows) {
            let bytes = store::small_file(table, &rows)?;
            let subject = Subject { table, chain };
            outcomes.push(replace(self.target, log, subject, rows.num_rows(), &bytes)?);
            log.checkpoint(ms_before(self.settings.retention))?;
        }
        Ok(worst(outcomes))
    }
}

/// The files that a table of the lake holds, ascending.
fn held(target: &dyn Target, table: &Table, state: &State) -> Result<Vec<Held<Add>>> {
    let held = |add: &Add| {
        let name = FileName::parse(&add.path).ok_or_else(|| {
            let (lake, table, path) = (target.name(), table.name, &add.path);
            let what = format!("`{lake}/{table}` has a file that spyhop did not write: `{path}`");
            Refused::new(what, "delete this table's directory in the lake, or give another: `--to`")
        })?;
        Ok(Held { name, rows: rows_of(add), file: add.clone() })
    };
    let mut files = state.files.values().map(held).collect::<Result<Vec<_>>>()?;
    files.sort_by_key(|held| held.name.first);
    Ok(files)
}

/// Refuses a lake of another chain.
fn check_chain(target: &dyn Target, table: &Table, state: &State, chain: Identity) -> Result<()> {
    let Some(metadata) = &state.metadata else { return Ok(()) };
    let wanted = (chain.chain_id.to_string(), chain.genesis_hash.to_string());
    match schema::chain_of(metadata) {
        Some(found) if found == (&wanted.0[..], &wanted.1[..]) => Ok(()),
        found => {
            let found =
                found.map_or("no chain".to_owned(), |(id, hash)| format!("chain {id} ({hash})"));
            let what = format!(
                "`{}/{}` is of {found}, and the volume of chain {} ({})",
                target.name(),
                table.name,
                wanted.0,
                wanted.1
            );
            Err(Refused::new(what, "give each volume a lake of its own: `--to`").into())
        }
    }
}

/// Verifies the checksums of all files that a batch adds.
fn check(
    volume: &Volume,
    tables: &[(&'static Table, TableLog<'_>)],
    batch: &[Changes],
    stop: &Stop,
    bar: &ProgressBar,
) -> Result<Outcome> {
    let files: Vec<(&Table, &Held<Source>)> = tables
        .iter()
        .zip(batch)
        .flat_map(|((table, _), changes)| {
            changes.iter().flat_map(|change| &change.adds).map(|held| (*table, held))
        })
        .collect();
    let watch = |bytes: u64| {
        bar.inc(bytes);
        stop.check().map_err(io::Error::other)
    };
    let outcomes = files.into_par_iter().map(|(table, held)| {
        let Source { directory, path, manifest } = &held.file;
        if !table.is_current(manifest.layout) {
            return Err(of_earlier_version(path));
        }
        bar.set_message(format!("{} {}-{}", table.name, held.name.first, held.name.last));
        match check_file_watched(volume.root(), directory, table.name, manifest, &watch) {
            Ok(_) => Ok(Outcome::Done),
            Err(_) if stop.is_set() => Err(Stopped.into()),
            Err(_) if held.file.is_gone(volume) => Ok(Outcome::Again),
            Err(error) => Err(told(error, volume.root())),
        }
    });
    Ok(worst(outcomes.collect::<Result<Vec<_>>>()?))
}

/// Delta has one type for a column: a file in which it has another would be read wrongly.
fn of_earlier_version(path: &Path) -> Error {
    Failed::new(
        format!("`{}` has the columns of an earlier version of spyhop", path.display()),
        "leave its table out with `--tables`, or build its blocks again: `spyhop rewind`, then \
        `spyhop backfill`",
    )
    .into()
}

fn report_losses(table: &Table, changes: &Changes) {
    for change in changes.iter().filter(|change| change.kind() == Kind::Loss) {
        let (table, first, last) = (table.name, change.first, change.last);
        tracing::warn!(
            table,
            first,
            last,
            "sealed blocks that the lake held are gone, rewound or in quarantine: removed from it"
        );
    }
}

fn worst(outcomes: Vec<Outcome>) -> Outcome {
    match outcomes.contains(&Outcome::Again) {
        true => Outcome::Again,
        false => Outcome::Done,
    }
}

/// So long ago, in milliseconds since 1970.
fn ms_before(time: Duration) -> u64 {
    now_ms().saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
