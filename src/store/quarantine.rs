//! Files that failed a check, kept for the operator and never deleted by spyhop.

use super::{range, replace_file, sync_directory};
use crate::clock::now;
use alloy_primitives::Bytes;
use anyhow::{Context, Result};
use serde_json::json;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Replies kept for one block: more would show nothing new.
const ANSWERS_MAX: usize = 3;

/// Limit on the number of blocks' replies kept in all: a node may lie for a long time.
const FILES_MAX: usize = 1_000;
const BYTES_MAX: u64 = 256 << 20;

/// Keeps a block's bytes and the reason, as `quarantine/block-NUMBER-DIGEST.json`, unless there are
/// many already.
pub(super) fn block(
    root: &Path,
    number: u64,
    raw_block: &Bytes,
    raw_receipts: &[Bytes],
    reason: &str,
) -> Result<()> {
    let mut digest = blake3::Hasher::new();
    digest.update(raw_block);
    raw_receipts.iter().for_each(|raw| {
        digest.update(raw);
    });
    let name = format!("block-{number:010}-{}.json", &digest.finalize().to_hex()[..16]);
    let (mut answers, mut files, mut bytes) = (0, 0, 0);
    for entry in fs::read_dir(root.join("quarantine"))? {
        let entry = entry?;
        let kept = entry.file_name();
        if kept == *name {
            return Ok(());
        }
        if kept.to_string_lossy().starts_with("block-") {
            answers +=
                usize::from(kept.to_string_lossy().starts_with(&format!("block-{number:010}-")));
            files += 1;
            bytes += entry.metadata()?.len();
        }
    }
    if answers >= ANSWERS_MAX {
        return Ok(());
    }
    if files >= FILES_MAX || bytes >= BYTES_MAX {
        tracing::warn!(
            number,
            files,
            mb = bytes >> 20,
            "the bytes of this block are not kept: quarantine has many already, which can be \
            deleted"
        );
        return Ok(());
    }
    let content = json!({
        "reason": reason, "number": number, "raw_block": raw_block, "raw_receipts": raw_receipts,
    });
    replace_file(&root.join("quarantine").join(name), content.to_string().as_bytes())
}

/// Moves `path`, relative to the volume, below `quarantine/LABEL`; if that name is taken, below
/// `LABEL-2`, `LABEL-3` …
pub(super) fn path(root: &Path, path: &Path, label: &str) -> Result<()> {
    let labels =
        std::iter::once(label.to_owned()).chain((2..).map(|count| format!("{label}-{count}")));
    let mut targets = labels.map(|label| root.join("quarantine").join(label).join(path));
    let target =
        targets.find(|target| target.symlink_metadata().is_err()).expect("the labels do not end");
    let parent = target.parent().expect("it is in quarantine");
    fs::create_dir_all(parent)
        .with_context(|| format!("failed to create: `{}`", parent.display()))?;
    fs::rename(root.join(path), &target).with_context(|| {
        format!("failed to move `{}` to `{}`", path.display(), target.display())
    })?;
    sync_directory(parent)?;
    sync_directory(root.join(path).parent().expect("it is on the volume"))
}

/// Prefix of the label of something damaged.
const DAMAGED: &str = "damaged";

/// Moves something damaged, relative to the volume, below `quarantine/damaged-at-SECONDS`. Returns
/// its new path, relative to the volume.
pub(super) fn damaged(root: &Path, damaged: &Path) -> Result<PathBuf> {
    let seconds = now();
    let label = (seconds..).map(|seconds| format!("{DAMAGED}-at-{seconds}"));
    let moved = label.map(|label| (Path::new("quarantine").join(&label).join(damaged), label));
    let (moved, label) = moved
        .into_iter()
        .find(|(moved, _)| fs::symlink_metadata(root.join(moved)).is_err())
        .expect("there are always more seconds");
    path(root, damaged, &label)?;
    Ok(moved)
}

/// Damaged items in quarantine. All paths are relative to the volume.
#[derive(Clone, Debug, Default)]
pub(crate) struct InQuarantine {
    /// Sealed ranges: first and last block, directory.
    pub ranges: Vec<(u64, u64, PathBuf)>,
    /// Records of reorganisations.
    pub reorgs: Vec<PathBuf>,
}

/// Damaged items in quarantine, without those that are regenerated automatically.
pub(crate) fn in_quarantine(root: &Path) -> Result<InQuarantine> {
    let quarantine = root.join("quarantine");
    let mut found = InQuarantine::default();
    for name in names(&quarantine)? {
        let relative = Path::new("quarantine").join(&name);
        // What a repair moved here was already rebuilt.
        if name.starts_with(DAMAGED) {
            let ranges = range::paths(&root.join(&relative))?.into_iter();
            let moved = ranges.map(|(first, last, path)| (first, last, relative.join(path)));
            found.ranges.extend(moved);
        }
        let reorgs = relative.join(".spyhop/reorgs");
        let records = names(&root.join(&reorgs))?.into_iter();
        let numbered = records.filter(|name| name.starts_with(|char: char| char.is_ascii_digit()));
        found.reorgs.extend(numbered.map(|name| reorgs.join(name)));
    }
    Ok(found)
}

/// Where something on the volume is, and where files of the same name are in quarantine.
pub(super) fn places(root: &Path, path: &Path) -> Result<Vec<PathBuf>> {
    let quarantine = root.join("quarantine");
    // Besides directories there is one file for each quarantined block.
    let mut places: Vec<_> = names(&quarantine)?.iter().map(|name| quarantine.join(name)).collect();
    places.retain(|place| place.is_dir());
    places.iter_mut().for_each(|place| place.push(path));
    places.push(root.join(path));
    Ok(places)
}

/// The UTF-8 names in a directory, ascending; none if it does not exist.
fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.with_context(|| format!("failed to list: `{}`", directory.display()))?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let mut names: Vec<_> = names.filter_map(Result::transpose).collect::<Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}
