//! Sealed ranges: one directory of Parquet files per aligned range of finalized blocks.

use super::damaged::Damaged;
use super::manifest::Manifest;
use super::table_file::table_path;
use super::{FORMAT, Store, record, sync_directory};
use crate::error::Refused;
use crate::rows::{Selection, Table};
use anyhow::{Context, Result};
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
    /// The highest one wins if the same range exists more than once.
    pub generation: u32,
    /// Its directory, relative to the volume.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Range {
    /// Number of blocks in the range.
    pub fn blocks(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Its chain tables.
    pub fn tables(&self) -> Selection {
        self.manifest.selection()
    }

    /// Number of rows of a table.
    pub(crate) fn rows(&self, table: &Table) -> u64 {
        self.manifest.tables.get(table.name).map_or(0, |held| held.rows)
    }

    /// The file of a table, on the volume at `root`.
    pub(crate) fn file(&self, root: &Path, table: &Table) -> PathBuf {
        table_path(&root.join(&self.path), table.name)
    }
}

/// A range whose manifest cannot be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// Its directory, relative to the volume.
    pub path: PathBuf,
    /// Why not.
    pub reason: String,
    /// Whether it could be read, but is not as it was written.
    pub is_damaged: bool,
}

/// Every range, including superseded ones, and the unreadable range directories.
pub(super) fn list_all(root: &Path) -> Result<(Vec<Range>, Vec<Unreadable>)> {
    let (mut ranges, mut unreadable) = (Vec::new(), Vec::new());
    for directory in directories(root)? {
        match directory.read(root) {
            Ok(range) => ranges.push(range),
            Err(error) if error.is::<Refused>() => return Err(error),
            // Deleted meanwhile: it was superseded.
            Err(_) if !root.join(&directory.path).exists() => {}
            Err(error) => {
                let RangeDirectory { first, last, path, .. } = directory;
                let damage = error.downcast_ref::<Damaged>().map(|damaged| damaged.reason.clone());
                let is_damaged = damage.is_some();
                let reason = damage.unwrap_or_else(|| error.root_cause().to_string());
                unreadable.push(Unreadable { first, last, path, reason, is_damaged });
            }
        }
    }
    Ok((ranges, unreadable))
}

/// The current ranges among the readable ones, and the unreadable ones.
pub(super) fn list_readable(root: &Path) -> Result<(Vec<Range>, Vec<Unreadable>)> {
    let (ranges, unreadable) = list_all(root)?;
    Ok((winners(ranges), unreadable))
}

/// A range as named by its directories.
struct RangeDirectory {
    first: u64,
    last: u64,
    generation: u32,
    path: PathBuf,
}

/// First block, last block and relative path of every directory below `root` that should be a
/// range.
pub(super) fn paths(root: &Path) -> Result<Vec<(u64, u64, PathBuf)>> {
    let found = directories(root)?.into_iter();
    Ok(found.map(|RangeDirectory { first, last, path, .. }| (first, last, path)).collect())
}

fn directories(root: &Path) -> Result<Vec<RangeDirectory>> {
    let mut directories = Vec::new();
    for (first, path) in keyed(&root.join("chain"), "first=")? {
        for (last, path) in keyed(&path, "last=")? {
            for generation in generations(&path)? {
                let path = path.join(format!("g{generation}"));
                let path = path.strip_prefix(root).expect("it was found below").to_owned();
                directories.push(RangeDirectory { first, last, generation, path });
            }
        }
    }
    Ok(directories)
}

impl RangeDirectory {
    fn read(&self, root: &Path) -> Result<Range> {
        let Self { first, last, generation, ref path } = *self;
        let shown = root.join(path);
        let file = shown.join("manifest.json");
        if let Some(format) = record::format(&file).filter(|format| *format > u64::from(FORMAT)) {
            let what = "was written by a newer spyhop";
            let what =
                format!("`{}` {what} (format {format}, this one knows {FORMAT})", shown.display());
            return Err(
                Refused::new(what, "run that one or a later one; nothing was touched").into()
            );
        }
        let path = path.clone();
        if !file
            .try_exists()
            .with_context(|| format!("failed to read the metadata of: `{}`", file.display()))?
        {
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

/// The current ranges: of overlapping ones the largest, of equal ones the highest generation;
/// ascending.
pub(super) fn list(root: &Path) -> Result<Vec<Range>> {
    let (ranges, unreadable) = list_readable(root)?;
    match unreadable.into_iter().next() {
        Some(Unreadable { path, reason, .. }) => Err(Damaged { path, reason }.into()),
        None => Ok(ranges),
    }
}

/// The pairs of neighbours that do not link, among ranges that are ascending and do not overlap.
pub(crate) fn unlinked(ranges: &[Range]) -> impl Iterator<Item = (&Range, &Range)> {
    let neighbours = ranges.windows(2).map(|pair| (&pair[0], &pair[1]));
    neighbours.filter(|(below, above)| {
        below.last + 1 == above.first
            && below.manifest.last_hash != above.manifest.first_parent_hash
    })
}

pub(super) fn winners(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_by_key(|range| {
        (std::cmp::Reverse(range.blocks()), range.first, std::cmp::Reverse(range.generation))
    });
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
    for loser in all.iter().filter(|range| !winners.iter().any(|winner| winner.path == range.path))
    {
        let winner =
            winners.iter().find(|winner| winner.first <= loser.first && loser.last <= winner.last);
        let Some(winner) = winner else { continue };
        let manifest = fs::File::open(store.root().join(&winner.path).join("manifest.json"))?;
        match manifest.metadata()?.modified()?.elapsed() {
            Ok(age) if age > grace => delete(store, &loser.path)?,
            Ok(_) => {}
            // Written by a clock that was ahead: its age counts from now.
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
    // Also removes parent directories that are now empty.
    let emptied = path
        .ancestors()
        .skip(1)
        .take(2)
        .take_while(|parent| fs::remove_dir(parent).is_ok())
        .count();
    sync_directory(path.ancestors().nth(emptied + 1).expect("it is on the volume"))
}

/// Removes a file or a directory with its content, if it exists.
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
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix))
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

pub(super) fn generations(directory: &Path) -> Result<Vec<u32>> {
    Ok(keyed(directory, "g")?
        .into_iter()
        .filter_map(|(number, _)| u32::try_from(number).ok())
        .collect())
}
