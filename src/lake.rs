//! Delta tables over the sealed files, for engines of more than one machine: Spark, Trino,
//! ClickHouse, Polars, and DuckDB too.
//!
//! A raw directory of Parquet files is read twice over while ranges are merged. A Delta table is a
//! directory of Parquet files and a log that says which of them count: `TABLE/_delta_log/N.json` is
//! version N. There is one for each chain table, with the sealed files themselves as its data, under
//! links; a sealed range is added, a merge or a repair removes files and adds others in one version.
//! `labels` and `coverage` are there too, each as one small file.
//!
//! The lake is a reader of the volume. It takes no lock: a version is committed by creating its
//! file, which only one of several processes can ([`Target::create`]). Each cycle reads the log
//! first, lists the sealed ranges after it, and commits the difference, so that whoever commits has
//! listed what is newer than what the lake holds. Everything else follows from the state that is
//! found: killed anywhere, the next cycle goes on.
//!
//! A file is in the lake before the version that names it, and its checksum is verified before that.
//! It is deleted only after a version has removed it and the retention has passed, or when no
//! version names it and it is older than both the retention and [`ORPHAN_MIN`].

mod action;
mod bucket;
mod checkpoint;
mod coverage;
mod endpoint;
mod file_name;
mod folder;
mod plan;
mod profile;
mod retention;
mod s3_error;
mod schema;
mod small;
mod statistics;
mod table_log;
mod target;
mod update;
mod upload;
mod version;
mod volume;

pub(crate) use target::Target;

use crate::error::Refused;
use crate::publish::{FileId, published};
use crate::rows::Selection;
use crate::stop::{Stop, Stopped};
use crate::store::{NAME_SYNTAX, check_name};
use anyhow::Result;
use bucket::Bucket;
use folder::Folder;
use indicatif::ProgressBar;
use std::path::{Component, Path, PathBuf, absolute};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use update::Lake;

/// Versions from one checkpoint to the next.
const CHECKPOINT_EVERY: u64 = 100;

/// The least age of a file that no version names before it counts as left over. Between a file's
/// arrival and its version there is less than half of it.
const ORPHAN_MIN: Duration = Duration::from_secs(24 * 3_600);

/// How often the volume is looked at for new ranges.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a new publication alone is looked into, for `labels` and `coverage`.
const PUBLISHED_EVERY: Duration = Duration::from_secs(10);

/// How often a failed cycle is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// How often a cycle runs although nothing has changed, to delete old files.
const CYCLE_EVERY: Duration = Duration::from_secs(600);

/// How long a signal goes unnoticed at most.
const TICK: Duration = Duration::from_millis(100);

/// What is made into a lake, and how.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The volume.
    pub data: PathBuf,
    /// The chain tables that the lake gets, as far as the volume has them.
    pub tables: Selection,
    /// How long files are kept after a version has removed them.
    pub retention: Duration,
}

/// Opens the place of a lake: a directory, or `s3://BUCKET/PREFIX`.
///
/// # Errors
/// If it cannot be one.
pub(crate) fn open(
    data: &Path,
    to: &Path,
    stop: &Stop,
    bar: &ProgressBar,
) -> Result<Box<dyn Target>> {
    if let Some(url) = to.to_str().filter(|to| to.contains("://")) {
        return Ok(Box::new(Bucket::open(url, stop, bar)?));
    }
    let [data, to] = &[absolute(data)?, absolute(to)?];
    if to.components().any(|part| part == Component::ParentDir) {
        let what = format!("`{}` leads upwards by `..`", to.display());
        return Err(Refused::new(what, "give the directory itself: `--to`").into());
    }
    // Those that exist may be links.
    let [data, to] = &[data, to].map(|path| path.canonicalize().unwrap_or(path.clone()));
    let own = ["", "chain", "tail", "whales", "quarantine", ".spyhop"];
    let is_in = |name: &str| match name {
        "" => to == data,
        name => to.starts_with(data.join(name)),
    };
    if own.into_iter().any(is_in) {
        let what = format!("`{}` is a directory of the volume itself", to.display());
        return Err(Refused::new(what, "give another one: `--to`").into());
    }
    check_name(to, NAME_SYNTAX)?;
    Ok(Box::new(Folder::open(to)?))
}

/// Makes the lake what the volume is, once.
///
/// # Errors
/// If a file is damaged, or the volume or the lake cannot be read or written. What is committed by
/// then is whole.
pub(crate) fn update(
    settings: &Settings,
    target: &dyn Target,
    stop: &Stop,
    bar: &ProgressBar,
) -> Result<()> {
    or_stopped(Lake::new(settings, target, stop, bar).update())
}

/// The same whenever the volume changes, until a signal.
///
/// # Errors
/// If the setup is wrong. What fails otherwise is logged and tried again.
pub(crate) fn follow(
    settings: &Settings,
    target: &dyn Target,
    stop: &Stop,
    bar: &ProgressBar,
) -> Result<()> {
    let mut lake = Lake::new(settings, target, stop, bar);
    let mut failure = None;
    loop {
        let (before, started) = (look(settings), Instant::now());
        let failed = match lake.update() {
            Err(error) if error.is::<Stopped>() => return Ok(()),
            Err(error) if error.is::<Refused>() => return Err(error),
            Err(error) => Some(format!("{error:#}")),
            Ok(()) => None,
        };
        if failed != failure
            && let Some(error) = &failed
        {
            tracing::error!(%error, "the lake was not updated; it is tried again");
        }
        if failed.is_none() && failure.is_some() {
            tracing::info!("the lake is up to date again");
        }
        failure = failed;
        // Not `before`: a range may have come since, and gone again by now.
        let made_of = lake.listed().or(before.directories.as_deref());
        loop {
            if pause(stop).is_err() {
                return Ok(());
            }
            let (now, since) = (look(settings), started.elapsed());
            let is_due = now.directories.as_deref() != made_of
                || (now.published != before.published && since >= PUBLISHED_EVERY)
                || (failure.is_some() && since >= RETRY_EVERY)
                || since >= CYCLE_EVERY;
            if is_due {
                break;
            }
        }
    }
}

/// What shows that there may be something to do.
struct Look {
    /// The directories of the sealed ranges; `None` if they cannot be listed.
    directories: Option<Vec<PathBuf>>,
    /// The published file.
    published: Option<FileId>,
}

fn look(settings: &Settings) -> Look {
    Look {
        directories: volume::directories(&settings.data).ok(),
        published: published(&settings.data).ok().flatten(),
    }
}

/// Waits until it is time to look again.
fn pause(stop: &Stop) -> Result<(), Stopped> {
    let started = Instant::now();
    while started.elapsed() < LOOK_EVERY {
        stop.check()?;
        thread::sleep(TICK);
    }
    stop.check()
}

/// A signal is no failure.
fn or_stopped(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.is::<Stopped>() => Ok(()),
        result => result,
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
