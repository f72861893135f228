//! Rebuilds what failed `spyhop verify`, from the node.
//!
//! A range's next generation is built and published before the old one goes to quarantine, so that
//! readers lose nothing. Missing tail blocks are fetched by the next `watch`, as always.

use super::builder::Job;
use super::connect::connect;
use super::error::FetchError;
use super::rebuild::Rebuild;
use super::reporter::Reporter;
use super::session::Session;
use super::settings::{From, Settings, Task, Traces};
use crate::answers::ranking;
use crate::clock::now;
use crate::geth::{Client, Limits};
use crate::plan::{Order, Piece, Source};
use crate::publish::Publisher;
use crate::rows::Selection;
use crate::stop::Stop;
use crate::store::{Range, Store, read_readable_ranges, tail};
use anyhow::{Context, Result, anyhow};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What to rebuild. All paths are relative to the volume.
#[derive(Clone, Debug, Default)]
pub struct Faulty {
    /// Sealed ranges: first and last block, directory.
    pub ranges: Vec<(u64, u64, PathBuf)>,
    /// Tables of these whose rows are wrong although the file has the right checksum: by directory
    /// and name.
    pub contradicted: BTreeSet<(PathBuf, String)>,
    /// Directories of tail chunks.
    pub chunks: Vec<PathBuf>,
    /// Files of the tail.
    pub tail: Vec<PathBuf>,
    /// Records, and files that are regenerated.
    pub small: Vec<PathBuf>,
    /// Whether to publish again.
    pub is_unpublished: bool,
}

impl Faulty {
    /// Adds a range, unless it is already there.
    pub(crate) fn add_range(&mut self, range: &Range) {
        if !self.has_range(range) {
            self.ranges.push((range.first, range.last, range.path.clone()));
        }
    }

    /// Whether it contains a range.
    pub(crate) fn has_range(&self, range: &Range) -> bool {
        self.ranges.iter().any(|(.., path)| *path == range.path)
    }

    /// Whether there is nothing to rebuild.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
            && self.chunks.is_empty()
            && self.tail.is_empty()
            && !self.is_unpublished
    }
}

/// Rebuilds what is faulty, publishes, and moves the old files to quarantine. Returns their paths
/// there.
///
/// # Errors
/// If the node lacks a block or is on another chain, or the volume lacks space; whatever was not
/// rebuilt stays as it was.
pub(crate) fn repair(
    ipc: PathBuf,
    store: Arc<Store>,
    published_path: Option<PathBuf>,
    faulty: Faulty,
) -> Result<PathBuf> {
    let stop = Stop::on_signals()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let label = format!("repair-at-{}", now());
    let settings = settings(ipc, &store, published_path)?;
    let work = rebuild(settings, store, faulty, &label, stop.clone());
    let ended = runtime.block_on(stop.or_stopped(work)).unwrap_or(Err(FetchError::Stopped));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended.map_err(error)?;
    Ok(PathBuf::from("quarantine").join(label))
}

/// Settings that keep everything stored: from its first block on, and with its tables.
fn settings(ipc: PathBuf, store: &Store, published_path: Option<PathBuf>) -> Result<Settings> {
    let (ranges, _) = read_readable_ranges(store.root())?;
    Ok(Settings {
        task: Task::Follow { once: true },
        ipc,
        data: store.root().to_owned(),
        from: ranges.first().map_or(From::BelowHead(0), |range| From::Block(range.first)),
        keep_days: None,
        finality_depth: 0,
        weth: None,
        published_path,
        memory_bytes_max: u64::MAX,
        tables: tables_held(store.root(), ranges.last())?,
        order: Order::default(),
        workers: 1,
        freezer: None,
        era: None,
        labels: None,
        abi: None,
        // For blocks of the tail.
        traces: Traces::Head,
    })
}

/// The tables of the tail; if there is none, those of the newest range.
fn tables_held(root: &Path, newest: Option<&Range>) -> Result<Selection> {
    let blocks = tail::paths(root)?.into_iter().filter_map(|path| tail::block_of(&path));
    let of_tail = blocks
        .rev()
        .find_map(|(number, hash)| tail::read(root, number, hash).ok())
        .map(|block| block.tables);
    Ok(of_tail.or(newest.map(Range::tables)).unwrap_or_default())
}

async fn rebuild(
    settings: Settings,
    store: Arc<Store>,
    faulty: Faulty,
    label: &str,
    stop: Stop,
) -> Result<(), FetchError> {
    let client = Client::new(&settings.ipc, Limits::of_memory(settings.memory_bytes_max));
    let mut reporter = Reporter::new(store.clone());
    let found = connect(&client, &store, &settings, &stop, &mut reporter).await?;
    // Opening the session would use these files; they are replaced.
    for path in faulty.tail.iter().chain(&faulty.chunks).chain(&faulty.small) {
        store.quarantine_path(path, label)?;
    }
    let publisher = Publisher::new(&store, settings.published_path.clone())?;
    let mut session =
        Session::open(settings, store.clone(), client, found, publisher, reporter, stop).await?;
    let head = session.look_at_head().await?;
    // It was computed from faulty files.
    session.publication.ranking = None;
    // Unreadable ranges went to quarantine when the session was opened.
    let mut rebuilds = session.sealed.rebuilds.clone();
    for range in faulty.ranges {
        if session.sealed.ranges.iter().any(|held| held.path == range.2) {
            let mut rebuild = Rebuild::new(store.root(), range)?;
            let contradicted = faulty.contradicted.iter().filter(|(path, _)| *path == rebuild.path);
            rebuild.contradicted = contradicted.map(|(_, table)| table.clone()).collect();
            rebuilds.push(rebuild);
        }
    }
    for rebuild in &rebuilds {
        let what = format!("blocks {} to {}", rebuild.first, rebuild.last);
        session.reporter.log_state(format!("rebuilding {what}"));
        let range = session.build_again(rebuild.clone()).await;
        let range = range.map_err(error).with_context(|| format!("failed to rebuild {what}"))?;
        session.sealed.add(range);
    }
    // The tail last, because it links to the ranges.
    session.fill_tail(head).await?;
    session.publication.dirty = true;
    session.publish(true)?;
    for rebuild in rebuilds.iter().filter(|rebuild| !rebuild.path.starts_with("quarantine")) {
        store.quarantine_path(&rebuild.path, label)?;
    }
    Ok(ranking::remove_all(&store)?)
}

impl Session {
    /// Rebuilds a range, and commits it.
    async fn build_again(&mut self, rebuild: Rebuild) -> Result<Range, FetchError> {
        let old = fs::read_dir(self.store.root().join(&rebuild.path))?
            .map(|entry| Ok(entry?.metadata()?.len()));
        if !self.has_room(old.sum::<Result<u64>>()?)? {
            return Err(FetchError::Other(anyhow!(
                "not enough free space: {}",
                self.reporter.state()
            )));
        }
        let piece = Piece { first: rebuild.first, last: rebuild.last, source: Source::Node };
        let tables = rebuild.tables;
        let job = Job {
            piece,
            tables,
            links: Vec::new(),
            adds_to: None,
            rebuilds: Some(rebuild),
            replaces: None,
        };
        let finished =
            self.jobs.builder.clone().build(job, Arc::new(AtomicBool::new(false))).await?;
        Ok(finished.commit(&self.store)?)
    }
}

/// The reason it failed, for the operator.
fn error(trouble: FetchError) -> anyhow::Error {
    match trouble {
        FetchError::Away(error) => error.into(),
        FetchError::Pruned(reason) => anyhow!("the node has pruned it: {reason}"),
        FetchError::Bad { reason, .. }
        | FetchError::Freezer(reason)
        | FetchError::Doubt(reason) => anyhow!(reason),
        FetchError::Stopped => anyhow!("stopped; whatever was not rebuilt stays as it was"),
        FetchError::Other(error) => error,
    }
}
