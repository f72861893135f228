//! A range being written: built in the temporary directory, then renamed into place.

use super::block_link::BlockLink;
use super::checksums::Hash;
use super::manifest::{Identity, Manifest, TableManifest, covered};
use super::range::{Range, generations};
use super::table_file::{GroupLimit, Sink, table_path};
use super::tail::TailBlock;
use super::{FORMAT, Store, quarantine, record, sorted, sync_directory};
use crate::rows::{Gap, Part, Selection};
use crate::stop::Stop;
use alloy_primitives::B256;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A range being built. If it is dropped unfinished, its files stay in the temporary directory
/// until the next start.
pub struct RangeWriter<'a> {
    store: &'a Store,
    identity: Identity,
    first: u64,
    last: u64,
    directory: PathBuf,
    tables: Vec<Box<dyn Sink>>,
    /// Tables reused from the previous generation.
    kept: BTreeMap<String, TableManifest>,
    /// Gaps of the new and the reused tables.
    gaps: Vec<Gap>,
    first_parent_hash: Option<B256>,
    top: Option<BlockLink>,
}

/// A complete and durable range that is not yet committed: readers do not see it before
/// [`Finished::commit`].
#[derive(Debug)]
pub struct Finished {
    directory: PathBuf,
    manifest: Manifest,
}

impl Finished {
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Commits it as the next generation of its range.
    pub fn commit(self, store: &Store) -> Result<Range> {
        commit(store, &self.directory, self.manifest)
    }
}

impl<'a> RangeWriter<'a> {
    /// Starts the range of blocks `first` to `last`, with these tables.
    pub fn create(
        store: &'a Store,
        identity: Identity,
        first: u64,
        last: u64,
        tables: Selection,
    ) -> Result<Self> {
        Self::create_as("range", store, identity, (first, last), tables)
    }

    /// The same for `kind`, a range or a tail chunk: one may be built beside the other of the same
    /// blocks.
    pub(super) fn create_as(
        kind: &str,
        store: &'a Store,
        identity: Identity,
        (first, last): (u64, u64),
        tables: Selection,
    ) -> Result<Self> {
        let directory = store.temporary().join(format!("{kind}-{first}-{last}"));
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)
            .with_context(|| format!("failed to create: `{}`", directory.display()))?;
        let tables = tables
            .tables()
            .map(|table| {
                let path = table_path(&directory, table.name);
                sorted::create(&path, table, GroupLimit::of_range(table, last - first + 1))
            })
            .collect::<Result<_>>()?;
        let kept = BTreeMap::new();
        let gaps = Vec::new();
        Ok(Self {
            store,
            identity,
            first,
            last,
            directory,
            tables,
            kept,
            gaps,
            first_parent_hash: None,
            top: None,
        })
    }

    /// Starts the next generation of a range, which adds these tables to those it has.
    ///
    /// # Errors
    /// [`Damaged`](super::Damaged) if one of the existing files does not match its manifest.
    pub(crate) fn create_adding(
        store: &'a Store,
        range: &Range,
        tables: Selection,
    ) -> Result<Self> {
        store.check_all(std::slice::from_ref(range), |_| true, Hash::New, &Stop::default())?;
        let added = tables.without(range.tables());
        let mut writer =
            Self::create(store, range.manifest.identity, range.first, range.last, added)?;
        for (name, manifest) in &range.manifest.tables {
            let held = table_path(&store.root().join(&range.path), name);
            let target = table_path(&writer.directory, name);
            // A hard link if the file system supports it.
            fs::hard_link(&held, &target)
                .or_else(|_| {
                    fs::copy(&held, &target).and_then(|_| fs::File::open(&target)?.sync_all())
                })
                .with_context(|| format!("failed to link or copy: `{}`", held.display()))?;
            writer.kept.insert(name.clone(), manifest.clone());
        }
        writer.gaps.clone_from(&range.manifest.gaps);
        Ok(writer)
    }

    /// Appends the rows of the next blocks: one part per table, the blocks' links, and the gaps.
    pub fn push(&mut self, parts: Vec<Part>, links: &[BlockLink], gaps: &[Gap]) -> Result<()> {
        gaps.iter().for_each(|gap| Gap::push(&mut self.gaps, gap.clone()));
        for link in links {
            let number = self.top.map_or(self.first, |top| top.number + 1);
            ensure!(link.number == number, "expected block {number}, found {}", link.number);
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
        ensure!(
            parts.len() == self.tables.len(),
            "{} parts for {} tables",
            parts.len(),
            self.tables.len()
        );
        self.tables.iter_mut().zip(parts).try_for_each(|(table, part)| table.write(part))
    }

    /// Appends a block of the tail.
    pub(crate) fn push_tail(&mut self, block: TailBlock) -> Result<()> {
        self.push(block.batches.into_iter().map(Part::Rows).collect(), &[block.link], &block.gaps)
    }

    /// Makes the range durable as a tail chunk, which is not sealed: the same files in another
    /// place, named by the last block's hash because a reorganisation may drop it.
    pub(super) fn finish_chunk(self) -> Result<PathBuf> {
        let store = self.store;
        let Finished { directory, manifest } = self.finish()?;
        let path = chunk_path(manifest.first, manifest.last, manifest.last_hash);
        place(store, &directory, &manifest, &path)?;
        Ok(path)
    }

    /// Makes the range's files durable.
    pub fn finish(self) -> Result<Finished> {
        let top =
            self.top.filter(|top| top.number == self.last).context("the range is not complete")?;
        let mut tables = self.kept;
        for table in self.tables {
            let (name, manifest) =
                table.finish(&|table| covered(self.first, self.last, table, &self.gaps))?;
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
            merged: None,
        };
        Ok(Finished { directory: self.directory, manifest })
    }
}

/// Directory of a tail chunk, relative to the volume.
pub(super) fn chunk_path(first: u64, last: u64, last_hash: B256) -> PathBuf {
    PathBuf::from(format!("tail/first={first:010}/last={last:010}/{last_hash:x}"))
}

/// Writes the manifest into a finished directory and renames it to `path`, relative to the volume.
fn place(store: &Store, directory: &Path, manifest: &Manifest, path: &Path) -> Result<()> {
    record::write(&directory.join("manifest.json"), manifest)?;
    let target = store.root().join(path);
    let parent = target.parent().expect("it is on the volume");
    fs::create_dir_all(parent)
        .with_context(|| format!("failed to create: `{}`", parent.display()))?;
    fs::rename(directory, &target)
        .with_context(|| format!("failed to rename to: `{}`", target.display()))?;
    target.ancestors().skip(1).take(3).try_for_each(sync_directory)
}

/// Commits a finished directory as the next generation of its range.
pub(super) fn commit(store: &Store, directory: &Path, manifest: Manifest) -> Result<Range> {
    let (first, last) = (manifest.first, manifest.last);
    let parent = PathBuf::from(format!("chain/first={first:010}/last={last:010}"));
    // Readers have seen the one in quarantine: its name is not reused.
    let held = quarantine::places(store.root(), &parent)?;
    let held = held.iter().map(|path| generations(path)).collect::<Result<Vec<_>>>()?;
    let generation = 1 + held.into_iter().flatten().max().unwrap_or(0);
    let path = parent.join(format!("g{generation}"));
    place(store, directory, &manifest, &path)?;
    Ok(Range { first, last, generation, path, manifest })
}
