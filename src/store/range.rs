//! Sealed ranges: one directory of Parquet files per aligned range of finalized blocks.

use super::damage::Damaged;
use super::manifest::{Identity, Manifest, TableManifest, covered};
use super::table_file::{GroupLimit, Sink, TableWriter};
use super::tail::TailBlock;
use super::{FORMAT, Hash, Store, record, sorted, sync_directory};
use crate::error::Refused;
use crate::rows::{Gap, Part, Selection};
use alloy_primitives::B256;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A sealed range on the volume.
#[derive(Clone, Debug)]
pub struct Range {
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// The higher one wins where the same range exists twice.
    pub generation: u32,
    /// Its directory, relative to the volume.
    pub path: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
}

impl Range {
    /// Blocks in the range.
    pub fn blocks(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Which chain tables it holds.
    pub fn tables(&self) -> Selection {
        self.manifest.selection()
    }
}

/// What links a block to its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLink {
    /// Height.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// The hash of the block before.
    pub parent_hash: B256,
    /// Seconds since 1970.
    pub timestamp: u64,
}

/// A range being built aside. Dropped unfinished, its files stay in the temporary directory until the next start.
pub struct RangeWriter<'a> {
    store: &'a Store,
    identity: Identity,
    first: u64,
    last: u64,
    directory: PathBuf,
    tables: Vec<Box<dyn Sink>>,
    /// Tables that the range held before, taken over as they are.
    kept: BTreeMap<String, TableManifest>,
    /// Of the tables that are made and of those that are kept.
    gaps: Vec<Gap>,
    first_parent_hash: Option<B256>,
    top: Option<BlockLink>,
}

/// A range that is whole and durable, and still aside: nobody sees it before [`Finished::commit`].
#[derive(Debug)]
pub struct Finished {
    directory: PathBuf,
    manifest: Manifest,
}

impl Finished {
    /// What it will say of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Puts it in its place, as the next generation of its range.
    pub fn commit(self, store: &Store) -> Result<Range> {
        commit(store, &self.directory, self.manifest)
    }
}

impl<'a> RangeWriter<'a> {
    /// Starts the range of blocks `first` to `last`, with these tables.
    pub fn create(store: &'a Store, identity: Identity, first: u64, last: u64, tables: Selection) -> Result<Self> {
        let directory = store.temporary().join(format!("range-{first}-{last}"));
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory).with_context(|| format!("failed to create: `{}`", directory.display()))?;
        let limit = GroupLimit::of_range(last - first + 1);
        let tables = tables
            .tables()
            .map(|table| {
                let path = directory.join(format!("{}.parquet", table.name));
                sorted::create(&path, table, limit)
                    .unwrap_or_else(|| Ok(Box::new(TableWriter::create(&path, table, limit)?)))
            })
            .collect::<Result<_>>()?;
        let kept = BTreeMap::new();
        let gaps = Vec::new();
        Ok(Self { store, identity, first, last, directory, tables, kept, gaps, first_parent_hash: None, top: None })
    }

    /// Starts the next generation of a range, which adds these tables to those it has.
    ///
    /// # Errors
    /// [`Damaged`](super::Damaged) where one of those is not what was written.
    pub fn create_adding(store: &'a Store, range: &Range, tables: Selection) -> Result<Self> {
        store.check_all(std::slice::from_ref(range), |_| true, Hash::New, &|| false)?;
        let added = tables.without(range.tables());
        let mut writer = Self::create(store, range.manifest.identity, range.first, range.last, added)?;
        for (name, manifest) in &range.manifest.tables {
            let file = format!("{name}.parquet");
            let (held, target) = (store.root().join(&range.path).join(&file), writer.directory.join(&file));
            // The same file under a second name, where the file system knows that.
            fs::hard_link(&held, &target)
                .or_else(|_| fs::copy(&held, &target).and_then(|_| fs::File::open(&target)?.sync_all()))
                .with_context(|| format!("failed to take over: `{}`", held.display()))?;
            writer.kept.insert(name.clone(), manifest.clone());
        }
        writer.gaps.clone_from(&range.manifest.gaps);
        Ok(writer)
    }

    /// Appends the rows of the next blocks: one part per table, the blocks' links, and which rows are not all there.
    pub fn push(&mut self, parts: Vec<Part>, links: &[BlockLink], gaps: &[Gap]) -> Result<()> {
        gaps.iter().for_each(|gap| Gap::push(&mut self.gaps, gap.clone()));
        for link in links {
            let number = self.top.map_or(self.first, |top| top.number + 1);
            ensure!(link.number == number, "block {} comes where {number} should", link.number);
            if let Some(top) = self.top {
                ensure!(
                    link.parent_hash == top.hash,
                    "block {number}: parent hash: expected {}, found {}",
                    top.hash,
                    link.parent_hash
                );
            }
            self.first_parent_hash.get_or_insert(link.parent_hash);
            self.top = Some(*link);
        }
        ensure!(parts.len() == self.tables.len(), "{} parts for {} tables", parts.len(), self.tables.len());
        self.tables.iter_mut().zip(parts).try_for_each(|(table, part)| table.write(part))
    }

    /// Appends a block of the tail.
    pub fn push_tail(&mut self, block: TailBlock) -> Result<()> {
        self.push(block.batches.into_iter().map(Part::Rows).collect(), &[block.link], &block.gaps)
    }

    /// Makes the range durable as a chunk of the tail, which stays unsealed: the same files in a place of their own, named by
    /// the last block's hash because a reorganisation may take it back.
    pub fn finish_chunk(self) -> Result<PathBuf> {
        let store = self.store;
        let Finished { directory, manifest } = self.finish()?;
        let path = chunk_path(manifest.first, manifest.last, manifest.last_hash);
        place(store, &directory, &manifest, &path)?;
        Ok(path)
    }

    /// Makes the range's files durable.
    pub fn finish(self) -> Result<Finished> {
        let top = self.top.filter(|top| top.number == self.last).context("the range is not whole")?;
        let mut tables = self.kept;
        for table in self.tables {
            let (name, manifest) = table.finish(&|table| covered(self.first, self.last, table, &self.gaps))?;
            tables.insert(name.to_owned(), manifest);
        }
        let manifest = Manifest {
            format: FORMAT,
            identity: self.identity,
            spyhop_version: env!("CARGO_PKG_VERSION").to_owned(),
            first: self.first,
            last: self.last,
            first_parent_hash: self.first_parent_hash.context("the range is empty")?,
            last_hash: top.hash,
            last_timestamp: top.timestamp,
            tables,
            gaps: self.gaps,
        };
        Ok(Finished { directory: self.directory, manifest })
    }
}

/// Where a chunk of the tail lies, relative to the volume.
pub(super) fn chunk_path(first: u64, last: u64, last_hash: B256) -> PathBuf {
    PathBuf::from(format!("tail/first={first:010}/last={last:010}/{last_hash:x}"))
}

/// Writes the manifest into a finished directory and renames it to `path`, relative to the volume.
fn place(store: &Store, directory: &Path, manifest: &Manifest, path: &Path) -> Result<()> {
    record::write(&directory.join("manifest.json"), manifest)?;
    let target = store.root().join(path);
    let parent = target.parent().expect("it lies on the volume");
    fs::create_dir_all(parent).with_context(|| format!("failed to create: `{}`", parent.display()))?;
    fs::rename(directory, &target).with_context(|| format!("failed to rename to: `{}`", target.display()))?;
    target.ancestors().skip(1).take(3).try_for_each(sync_directory)
}

/// Commits a finished directory as the next generation of its range.
pub(super) fn commit(store: &Store, directory: &Path, manifest: Manifest) -> Result<Range> {
    let (first, last) = (manifest.first, manifest.last);
    let parent = PathBuf::from(format!("chain/first={first:010}/last={last:010}"));
    // One that is in quarantine was seen by readers: its name is not given again.
    let held = super::quarantine::places(store.root(), &parent)?;
    let held = held.iter().map(|path| generations(path)).collect::<Result<Vec<_>>>()?;
    let generation = 1 + held.into_iter().flatten().max().unwrap_or(0);
    let path = parent.join(format!("g{generation}"));
    place(store, directory, &manifest, &path)?;
    Ok(Range { first, last, generation, path, manifest })
}

/// A range whose manifest cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// Its directory, relative to the volume.
    pub path: PathBuf,
    /// Why not.
    pub reason: String,
    /// Whether it was read, and is not what was written.
    pub is_damaged: bool,
}

/// Every range, winners and losers, and the directories that should be one and cannot be read.
pub(super) fn list_all(root: &Path) -> Result<(Vec<Range>, Vec<Unreadable>)> {
    let (mut ranges, mut unreadable) = (Vec::new(), Vec::new());
    for directory in directories(root)? {
        match directory.read(root) {
            Ok(range) => ranges.push(range),
            Err(error) if error.is::<Refused>() => return Err(error),
            // Deleted meanwhile: it had lost to another.
            Err(_) if !root.join(&directory.path).exists() => {}
            Err(error) => {
                let Directory { first, last, path, .. } = directory;
                let damage = error.downcast_ref::<Damaged>().map(|damaged| damaged.reason.clone());
                let is_damaged = damage.is_some();
                let reason = damage.unwrap_or_else(|| error.root_cause().to_string());
                unreadable.push(Unreadable { first, last, path, reason, is_damaged });
            }
        }
    }
    Ok((ranges, unreadable))
}

/// The ranges that count among those that can be read, and those that cannot.
pub(super) fn list_readable(root: &Path) -> Result<(Vec<Range>, Vec<Unreadable>)> {
    let (ranges, unreadable) = list_all(root)?;
    Ok((winners(ranges), unreadable))
}

/// A range by the names of its directories.
struct Directory {
    first: u64,
    last: u64,
    generation: u32,
    path: PathBuf,
}

/// First block, last block and relative path of every directory below `root` that should be a range.
pub(super) fn paths(root: &Path) -> Result<Vec<(u64, u64, PathBuf)>> {
    let found = directories(root)?.into_iter();
    Ok(found.map(|Directory { first, last, path, .. }| (first, last, path)).collect())
}

fn directories(root: &Path) -> Result<Vec<Directory>> {
    let mut directories = Vec::new();
    for (first, path) in keyed(&root.join("chain"), "first=")? {
        for (last, path) in keyed(&path, "last=")? {
            for generation in generations(&path)? {
                let path = path.join(format!("g{generation}"));
                let path = path.strip_prefix(root).expect("it was found below").to_owned();
                directories.push(Directory { first, last, generation, path });
            }
        }
    }
    Ok(directories)
}

impl Directory {
    fn read(&self, root: &Path) -> Result<Range> {
        let Self { first, last, generation, ref path } = *self;
        let shown = root.join(path);
        let file = shown.join("manifest.json");
        if let Some(format) = record::format(&file).filter(|format| *format > u64::from(FORMAT)) {
            let what = "was written by a newer spyhop";
            let what = format!("`{}` {what} (format {format}, this one knows {FORMAT})", shown.display());
            return Err(Refused::new(what, "run that one or a later one; nothing was touched").into());
        }
        let path = path.clone();
        if !file.try_exists().with_context(|| format!("failed to look at: `{}`", file.display()))? {
            return Err(Damaged { path, reason: "it is missing".to_owned() }.into());
        }
        let manifest = Manifest::read(&shown)?;
        if (manifest.first, manifest.last) != (first, last) {
            let reason = format!("it is of blocks {} to {}", manifest.first, manifest.last);
            return Err(Damaged { path, reason }.into());
        }
        Ok(Range { first, last, generation, path, manifest })
    }
}

/// The ranges that count: of overlapping ones the largest, of equal ones the highest generation; ascending.
///
/// # Errors
/// Where the manifest of one cannot be read.
pub(super) fn list(root: &Path) -> Result<Vec<Range>> {
    let (ranges, unreadable) = list_readable(root)?;
    match unreadable.into_iter().next() {
        Some(Unreadable { path, reason, .. }) => Err(Damaged { path, reason }.into()),
        None => Ok(ranges),
    }
}

/// The pairs of neighbours among ranges, ascending and without overlaps, that do not link.
pub fn unlinked(ranges: &[Range]) -> impl Iterator<Item = (&Range, &Range)> {
    let neighbours = ranges.windows(2).map(|pair| (&pair[0], &pair[1]));
    neighbours.filter(|(below, above)| {
        below.last + 1 == above.first && below.manifest.last_hash != above.manifest.first_parent_hash
    })
}

fn winners(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_by_key(|range| (std::cmp::Reverse(range.blocks()), range.first, std::cmp::Reverse(range.generation)));
    let mut winners = std::collections::BTreeMap::<u64, Range>::new();
    for range in ranges {
        let below = winners.range(..=range.last).next_back();
        if below.is_none_or(|(_, other)| other.last < range.first) {
            winners.insert(range.first, range);
        }
    }
    winners.into_values().collect()
}

pub(super) fn collect_losers(store: &Store, grace: std::time::Duration) -> Result<()> {
    let (all, _) = list_all(store.root())?;
    let winners = winners(all.clone());
    for loser in all.iter().filter(|range| !winners.iter().any(|winner| winner.path == range.path)) {
        let winner = winners.iter().find(|winner| winner.first <= loser.first && loser.last <= winner.last);
        let Some(winner) = winner else { continue };
        let manifest = fs::File::open(store.root().join(&winner.path).join("manifest.json"))?;
        match manifest.metadata()?.modified()?.elapsed() {
            Ok(age) if age > grace => delete(store, &loser.path)?,
            Ok(_) => {}
            // Written by a clock that was ahead: from now on by this one.
            Err(_) => manifest.set_modified(SystemTime::now())?,
        }
    }
    Ok(())
}

pub(super) fn delete(store: &Store, path: &Path) -> Result<()> {
    let path = store.root().join(path);
    let aside = store.temporary().join("deleted");
    remove_all(&aside)?;
    fs::rename(&path, &aside).with_context(|| format!("failed to remove: `{}`", path.display()))?;
    remove_all(&aside)?;
    // Its parents go where nothing else is in them.
    let emptied = path.ancestors().skip(1).take(2).take_while(|parent| fs::remove_dir(parent).is_ok()).count();
    sync_directory(path.ancestors().nth(emptied + 1).expect("it lies on the volume"))
}

/// Removes a file or a directory with all that is in it, if it is there.
pub(super) fn remove_all(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.with_context(|| format!("failed to remove: `{}`", path.display()))
}

pub(super) fn keyed(directory: &Path, prefix: &str) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("failed to list: `{}`", directory.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // Directories only, whatever else somebody has put here.
        if !entry.path().is_dir() {
            continue;
        }
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|number| number.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn generations(directory: &Path) -> Result<Vec<u32>> {
    Ok(keyed(directory, "g")?.into_iter().filter_map(|(number, _)| u32::try_from(number).ok()).collect())
}
