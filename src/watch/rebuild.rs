//! Damaged ranges: what to rebuild, and what may replace what.
//!
//! The directories in quarantine record what to rebuild, so a new process knows it as well.

use super::error::FetchError;
use super::state::UNASKED;
use crate::error::Refused;
use crate::rows::dependencies::{Need, needing};
use crate::rows::{Gap, Selection};
use crate::store::{Identity, Manifest, Range, Store, in_quarantine, missing_or_cut, table_of};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A sealed range to rebuild.
#[derive(Clone, Debug)]
pub(super) struct Rebuild {
    pub first: u64,
    pub last: u64,
    /// The tables it needs.
    pub tables: Selection,
    /// Path of the damaged range, relative to the volume.
    pub path: PathBuf,
    /// Tables whose rows are wrong although their files have the right checksum.
    pub contradicted: BTreeSet<String>,
}

impl Rebuild {
    /// The range in a directory, with all its tables.
    pub(super) fn new(root: &Path, (first, last, path): (u64, u64, PathBuf)) -> Result<Self> {
        let tables = tables_of(&root.join(&path))?;
        Ok(Self { first, last, tables, path, contradicted: BTreeSet::new() })
    }

    /// Whether it contains some of these blocks.
    pub(super) fn overlaps(&self, first: u64, last: u64) -> bool {
        self.first <= last && first <= self.last
    }
}

/// The sealed ranges at the start, and those to rebuild: ranges that cannot be read, are truncated
/// or are of another chain go to quarantine first.
///
/// # Errors
/// If no range is of this chain, or one cannot be read for a reason other than its content.
pub(super) fn open(store: &Store, identity: Identity) -> Result<(Vec<Range>, Vec<Rebuild>)> {
    let root = store.root();
    let ranges = loop {
        let (ranges, unreadable) = store.readable_ranges()?;
        if let Some(range) = unreadable.iter().find(|range| !range.is_damaged) {
            bail!("failed to read the manifest in `{}`: {}", range.path.display(), range.reason);
        }
        let is_other = |range: &&Range| range.manifest.identity != identity;
        if let (Some(range), true) = (ranges.first(), ranges.iter().all(|range| is_other(&range))) {
            return Err(Refused::new(
                format!("range `{}` is of another chain", range.path.display()),
                "give each chain a data directory of its own; nothing was touched",
            )
            .into());
        }
        let mut damaged: Vec<_> =
            unreadable.into_iter().map(|range| (range.path, range.reason)).collect();
        for range in ranges.iter().filter(|range| !is_other(range)) {
            let reason = missing_or_cut(root, &range.path, &range.manifest)?;
            damaged.extend(reason.map(|reason| (range.path.clone(), reason)));
        }
        let others = ranges.iter().filter(is_other);
        damaged.extend(
            others.map(|range| {
                (range.path.clone(), "manifest.json: it is of another chain".to_owned())
            }),
        );
        if damaged.is_empty() {
            break ranges;
        }
        for (path, reason) in damaged {
            store.quarantine_damaged(&path, &reason)?;
        }
    };
    let mut rebuilds: Vec<Rebuild> = Vec::new();
    // If a range was damaged more than once, take the latest.
    for range in in_quarantine(root)?.ranges.into_iter().rev() {
        let rebuild = Rebuild::new(root, range)?;
        let is_held = ranges.iter().any(|range| rebuild.overlaps(range.first, range.last));
        if !is_held && !rebuilds.iter().any(|other| rebuild.overlaps(other.first, other.last)) {
            rebuilds.push(rebuild);
        }
    }
    Ok((ranges, rebuilds))
}

/// Whether a range lacks state-dependent rows because the node was never asked.
pub(super) fn was_not_asked(range: &Range) -> bool {
    range.manifest.gaps.iter().any(|gap| UNASKED.contains(&&gap.reason[..]))
}

/// A range reduced to the tables that follow from blocks alone.
pub(super) fn without_state(range: &Range) -> Option<Range> {
    let mut range = range.clone();
    range.manifest.tables.retain(|name, _| !is_of_state(name));
    range.manifest.gaps.retain(|gap| range.manifest.tables.contains_key(&gap.table));
    (!range.manifest.tables.is_empty()).then_some(range)
}

/// Fails if a replacement has rows for fewer blocks than the range it replaces.
pub(super) fn covers_as_much(new: &Manifest, old: &Manifest) -> Result<(), FetchError> {
    let blocks = |manifest: &Manifest, table: &str| -> u64 {
        let gaps = manifest.gaps.iter().filter(|gap| gap.table == table);
        gaps.map(|Gap { first, last, .. }| last - first + 1).sum()
    };
    for table in old.tables.keys() {
        let (lacks, lacked) = (blocks(new, table), blocks(old, table));
        if lacks > lacked {
            let reason = format!(
                "the node provided fewer blocks than before: `{table}` now lacks {lacks}, before \
                {lacked}"
            );
            return Err(FetchError::Bad { number: old.first, reason });
        }
    }
    if new.gaps.iter().any(|gap| UNASKED.contains(&&gap.reason[..])) {
        return Err(FetchError::Bad {
            number: old.first,
            reason: "the node was not asked again".to_owned(),
        });
    }
    Ok(())
}

/// Whether a table depends on state, which only a node that has it can provide.
pub(super) fn is_of_state(table: &str) -> bool {
    needing(Need::is_of_state).tables().any(|of_state| of_state.name == table)
}

/// The chain tables of a range, from its manifest, or if that cannot be read, from its files.
fn tables_of(directory: &Path) -> Result<Selection> {
    if let Ok(manifest) = Manifest::read(directory) {
        return Ok(manifest.selection());
    }
    let entries = fs::read_dir(directory)
        .with_context(|| format!("failed to list: `{}`", directory.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
    let names = names.collect::<Result<Vec<_>>>()?;
    Ok(Selection::of_known(names.iter().filter_map(|name| table_of(name))))
}
