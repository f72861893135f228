//! Building what failed `spyhop verify` again, out of the node.
//!
//! A range's next generation is built and published before the old one goes to quarantine, so that readers lose nothing. What the
//! tail lost, the next `watch` fetches: that is what it does with a tail anyway.

use super::build::Job;
use super::fetch::Trouble;
use super::progress::now;
use super::session::Session;
use super::{From, Settings, Stop, Task, Traces, node, progress};
use crate::geth::{Client, Limits, Tag};
use crate::plan::{Order, Piece, Source};
use crate::publish::Publisher;
use crate::rows::Selection;
use crate::rows::dependencies::{Need, needing};
use crate::store::{FORMAT, Identity, Manifest, Range, Store, read_readable_ranges, tail};
use crate::whales::ranking;
use anyhow::{Context, Result, anyhow};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What is to be built again. All paths are relative to the volume.
#[derive(Clone, Debug, Default)]
pub struct Faulty {
    /// Sealed ranges: first and last block, directory.
    pub ranges: Vec<(u64, u64, PathBuf)>,
    /// Tables of these whose rows are wrong though the file is what was written: by directory and name.
    pub contradicted: BTreeSet<(PathBuf, String)>,
    /// Chunks of the tail: their directories.
    pub chunks: Vec<PathBuf>,
    /// Files of the tail.
    pub tail: Vec<PathBuf>,
}

impl Faulty {
    /// Adds a range, once.
    pub fn add_range(&mut self, range: &Range) {
        if !self.has_range(range) {
            self.ranges.push((range.first, range.last, range.path.clone()));
        }
    }

    /// Whether a range is among them.
    pub fn has_range(&self, range: &Range) -> bool {
        self.ranges.iter().any(|(.., path)| *path == range.path)
    }

    /// Whether there is nothing to build.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.chunks.is_empty() && self.tail.is_empty()
    }
}

/// Builds what is faulty again, publishes, and moves the old to quarantine. Returns where in there.
///
/// # Errors
/// Where the node does not give a block, gives another chain, or the volume lacks room; what was not built again stays as it was.
pub fn repair(ipc: PathBuf, store: Arc<Store>, published_path: Option<PathBuf>, faulty: Faulty) -> Result<PathBuf> {
    let stop = Stop::on_signals()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let label = format!("repair-at-{}", now());
    let settings = settings(ipc, &store, published_path)?;
    let work = rebuild(settings, store, faulty, &label, stop.clone());
    let ended = runtime.block_on(stop.or_stopped(work));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended.map_err(error)?;
    Ok(PathBuf::from("quarantine").join(label))
}

/// Settings by which all that is held stays as it is: from its first block on, and with its tables.
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
        ancient: None,
        era: None,
        labels: None,
        abi: None,
        // For blocks of the tail.
        traces: Traces::Head,
    })
}

/// The tables of the tail, which is made anew with others; where there is none, those of the newest range.
fn tables_held(root: &Path, newest: Option<&Range>) -> Result<Selection> {
    let blocks = tail::paths(root)?.into_iter().filter_map(|path| tail::block_of(&path));
    let of_tail = blocks.rev().find_map(|(number, hash)| tail::read(root, number, hash).ok()).map(|block| block.tables);
    Ok(of_tail.or(newest.map(Range::tables)).unwrap_or_default())
}

async fn rebuild(
    settings: Settings,
    store: Arc<Store>,
    faulty: Faulty,
    label: &str,
    stop: Stop,
) -> Result<(), Trouble> {
    let client = Client::new(&settings.ipc, Limits::of_memory(settings.memory_bytes_max));
    let mut teller = progress::Teller::new(store.clone());
    let node = node::wait(&client, &store, &settings, &stop, &mut teller).await?;
    // These would be taken for good when the session opens. Their places are those of what is built anew.
    for path in faulty.tail.iter().chain(&faulty.chunks) {
        store.quarantine_path(path, label)?;
    }
    let mut ranges = Vec::new();
    let contradicted = faulty.contradicted;
    for (first, last, path) in faulty.ranges {
        let directory = store.root().join(&path);
        ranges.push((Piece { first, last, source: Source::Node }, tables_of(&directory)?, path.clone()));
        // Without its manifest a directory is no range, and its files are still there for those who read them.
        if !is_range(&directory, node.chain.identity, (first, last)) {
            fs::rename(directory.join("manifest.json"), directory.join("manifest.json.faulty"))?;
        }
    }
    let publisher = Publisher::new(&store, settings.published_path.clone())?;
    let mut session = Session::open(settings, store.clone(), client, node, publisher, teller, stop).await?;
    let head = session.look_at_head().await?;
    session.head = Some(head);
    session.look_for_finalized(head).await?;
    // It was made of what is faulty.
    session.ranking = None;
    for (piece, tables, path) in &ranges {
        let (piece, tables) = (*piece, *tables);
        let what = format!("blocks {} to {}", piece.first, piece.last);
        session.teller.say(format!("building {what} again"));
        let range = session.build_again(piece, tables, path, &contradicted).await;
        let range = range.map_err(error).with_context(|| format!("failed to build {what} again"))?;
        session.add_range(range);
    }
    // The tail, once that is right which it links to.
    session.fill_tail(head).await?;
    session.dirty = true;
    session.publish(true)?;
    for (.., path) in &ranges {
        store.quarantine_path(path, label)?;
    }
    Ok(ranking::remove_all(&store)?)
}

impl Session {
    /// Builds the next generation of a range, with these tables, and commits it.
    async fn build_again(
        &mut self,
        piece: Piece,
        tables: Selection,
        directory: &Path,
        contradicted: &BTreeSet<(PathBuf, String)>,
    ) -> Result<Range, Trouble> {
        let old = fs::read_dir(self.store.root().join(directory))?.map(|entry| Ok(entry?.metadata()?.len()));
        if !self.has_room(old.sum::<Result<u64>>()?)? {
            return Err(Trouble::Other(anyhow!("there is no room for it: {}", self.teller.state())));
        }
        let mut builder = self.builder.clone();
        builder.fetcher.options.tables = tables;
        let sound = |table: &str| !contradicted.contains(&(directory.to_owned(), table.to_owned()));
        let job = Job { piece, links: Vec::new(), adds_to: self.sound_state(piece, directory, &sound).await? };
        let finished = builder.build(job, Arc::new(AtomicBool::new(false))).await?;
        Ok(finished.commit(&self.store)?)
    }
}

impl Session {
    /// The faulty range with nothing but those of its tables that the node could not tell again and whose files are as they were
    /// written; they are taken over. `None` where there are none, or where the range is not of the node's chain.
    async fn sound_state(
        &self,
        piece: Piece,
        directory: &Path,
        sound: &dyn Fn(&str) -> bool,
    ) -> Result<Option<Range>, Trouble> {
        let root = self.store.root();
        let Ok(mut manifest) = Manifest::read(&root.join(directory)) else { return Ok(None) };
        let node = self.client.head(Tag::Number(piece.last)).await.map_err(Trouble::Away)?;
        if (manifest.last, manifest.last_hash) != (piece.last, node.hash) {
            return Ok(None);
        }
        // What only a node that had the state could tell, and what is made of it.
        let of_state = needing(Need::is_of_state);
        manifest.tables.retain(|name, table| {
            let path = root.join(directory).join(format!("{name}.parquet"));
            let as_written = || hash_of(&path).is_ok_and(|hash| hash == table.blake3);
            of_state.tables().any(|table| table.name == name) && sound(name) && as_written()
        });
        manifest.gaps.retain(|gap| manifest.tables.contains_key(&gap.table));
        let Piece { first, last, .. } = piece;
        let path = directory.to_owned();
        Ok((!manifest.tables.is_empty()).then_some(Range { first, last, generation: 0, path, manifest }))
    }
}

/// BLAKE3 of a file.
fn hash_of(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?)?;
    Ok(hasher.finalize().to_string())
}

/// The chain tables of a range: those that its manifest names, or where that cannot be read those that it has files of.
fn tables_of(directory: &Path) -> Result<Selection> {
    if let Ok(manifest) = Manifest::read(directory) {
        return Ok(manifest.selection());
    }
    let entries = fs::read_dir(directory).with_context(|| format!("failed to list: `{}`", directory.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
    let names = names.collect::<Result<Vec<_>>>()?;
    Ok(Selection::of_known(names.iter().filter_map(|name| name.strip_suffix(".parquet"))))
}

/// Whether a manifest can be read and is of this chain and of these blocks.
fn is_range(directory: &Path, identity: Identity, blocks: (u64, u64)) -> bool {
    Manifest::read(directory).is_ok_and(|manifest| {
        manifest.identity == identity && (manifest.first, manifest.last) == blocks && manifest.format <= FORMAT
    })
}

/// Why it was not done, for the operator.
fn error(trouble: Trouble) -> anyhow::Error {
    match trouble {
        Trouble::Away(error) => error.into(),
        Trouble::Pruned(reason) => anyhow!("the node has pruned it: {reason}"),
        Trouble::Bad { reason, .. } | Trouble::Frozen(reason) | Trouble::Doubt(reason) => anyhow!(reason),
        Trouble::Stopped => anyhow!("stopped; what was not finished stays as it was"),
        Trouble::Other(error) => error,
    }
}
