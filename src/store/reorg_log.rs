//! The record of reorganisations, and the intent to drop their losing blocks.
//!
//! `N.pending` is written and made durable before any tail file is dropped; when all are gone it
//! becomes `N.json`. After a kill in between, the next start finishes it, and the reorganisation is
//! recorded once. How many there were is in a file of its own, so that the loss of the newest is
//! noticed too.

use super::{Damaged, Store, in_quarantine, record, sync_directory, tail};
use crate::rows::reorgs::Reorg;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the count of the records lies, relative to the volume.
const COUNT: &str = ".spyhop/reorgs/count.json";

pub(super) fn append(store: &Store, reorg: &Reorg) -> Result<()> {
    let directory = store.root().join(".spyhop/reorgs");
    let last = entries(store.root())?.pop();
    if let Some((_, path)) = &last
        && let Ok(noted) = record::read::<Reorg>(path)
        && (noted.fork_hash, &noted.old_hashes) == (reorg.fork_hash, &reorg.old_hashes)
    {
        // It was recorded, and then an error such as a full volume was waited out.
        return finish(store, path, &noted);
    }
    let number = last.map_or(0, |(number, _)| number.saturating_add(1)).max(count(store.root()));
    let path = directory.join(format!("{number:010}.pending"));
    record::write(&path, reorg)?;
    write_count(store, number.saturating_add(1))?;
    finish(store, &path, reorg)
}

/// Finishes dropping files for reorganisations recorded before a kill. Blocks of a damaged record
/// do not link to the node's chain and are dropped for that reason.
pub(super) fn finish_pending(store: &Store) -> Result<()> {
    for (_, path) in entries(store.root())? {
        if path.extension().is_some_and(|extension| extension == "pending")
            && let Some(reorg) = read(store, &path)?
        {
            finish(store, &path, &reorg)?;
        }
    }
    let recorded = entries(store.root())?.last().map_or(0, |(number, _)| number.saturating_add(1));
    if recorded > count(store.root()) {
        write_count(store, recorded)?;
    }
    Ok(())
}

fn finish(store: &Store, pending: &Path, reorg: &Reorg) -> Result<()> {
    // From the top down: whatever is left links to the blocks below it.
    for (index, hash) in reorg.old_hashes.iter().enumerate().rev() {
        let number = reorg.fork_block + 1 + index as u64;
        tail::remove(store.root(), number, *hash)?;
    }
    sync_directory(&store.root().join("tail"))?;
    fs::rename(pending, pending.with_extension("json"))?;
    sync_directory(pending.parent().expect("it is in a directory"))
}

pub(super) fn list(store: &Store) -> Result<Vec<Reorg>> {
    let reorgs = entries(store.root())?.into_iter().map(|(_, path)| read(store, &path));
    reorgs.filter_map(Result::transpose).collect()
}

/// Reads a record; a damaged one goes to quarantine, and none is returned.
fn read(store: &Store, path: &Path) -> Result<Option<Reorg>> {
    match record::read(path) {
        Ok(reorg) => Ok(Some(reorg)),
        Err(error) => match error.downcast_ref::<Damaged>() {
            Some(Damaged { reason, .. }) => {
                let path = path.strip_prefix(store.root()).expect("it is on the volume");
                store.quarantine_damaged(path, reason)?;
                Ok(None)
            }
            None => Err(error),
        },
    }
}

/// The damaged records, with what is wrong with each.
pub(super) fn damaged(root: &Path) -> Result<Vec<Damaged>> {
    let records = entries(root)?.into_iter().map(|(_, path)| record::read::<Reorg>(&path).err());
    Ok(records.flatten().filter_map(|error| error.downcast().ok()).collect())
}

/// How many reorganisations were ever recorded.
#[derive(Deserialize, Serialize)]
struct Count {
    count: u64,
}

/// How many reorganisations were ever recorded, as far as that is known.
fn count(root: &Path) -> u64 {
    record::read(&root.join(COUNT)).map_or(0, |Count { count }| count)
}

fn write_count(store: &Store, count: u64) -> Result<()> {
    if store.root().join(COUNT).is_dir() {
        store.quarantine_damaged(COUNT.as_ref(), "it is a directory")?;
    }
    record::write(&store.root().join(COUNT), &Count { count })
}

/// How many records were lost: those in quarantine, and missing numbers.
pub(super) fn lost(root: &Path) -> Result<usize> {
    let quarantined = in_quarantine(root)?.reorgs;
    let mut numbers: Vec<_> = entries(root)?.into_iter().map(|(number, _)| number).collect();
    numbers.extend(quarantined.iter().filter_map(|path| number_of(path)));
    numbers.sort_unstable();
    numbers.dedup();
    let recorded = numbers.last().map_or(0, |last| last.saturating_add(1)).max(count(root));
    let left_out = recorded - numbers.len() as u64;
    Ok(quarantined.len().saturating_add(left_out as usize))
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn entries(root: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let directory = root.join(".spyhop/reorgs");
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("failed to list: `{}`", directory.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let known =
            path.extension().is_some_and(|extension| extension == "json" || extension == "pending");
        if let Some(number) = number_of(&path).filter(|_| known) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}
