//! What failed a check, kept for the operator and never deleted by spyhop.

use super::{replace_file, sync_directory};
use alloy_primitives::Bytes;
use anyhow::{Context, Result};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Answers for one block that are kept: more would tell nothing new.
const ANSWERS_MAX: usize = 3;

/// Blocks' answers that are kept in all, and their bytes: a node that lies may do so for long.
const FILES_MAX: usize = 1_000;
const BYTES_MAX: u64 = 256 << 20;

/// Keeps a block's bytes and why it is here, as `quarantine/block-NUMBER-DIGEST.json`, unless there are many already.
pub(super) fn block(root: &Path, number: u64, raw_block: &Bytes, raw_receipts: &[Bytes], reason: &str) -> Result<()> {
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
            answers += usize::from(kept.to_string_lossy().starts_with(&format!("block-{number:010}-")));
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
            "the bytes of this block are not kept: there are many in quarantine already, which may be deleted"
        );
        return Ok(());
    }
    let content = json!({"reason": reason, "number": number, "raw_block": raw_block, "raw_receipts": raw_receipts});
    replace_file(&root.join("quarantine").join(name), content.to_string().as_bytes())
}

/// Moves `path`, relative to the volume, below `quarantine/LABEL`; where one of its name is there already, below `LABEL-2`, `LABEL-3` …
pub(super) fn path(root: &Path, path: &Path, label: &str) -> Result<()> {
    let labels = std::iter::once(label.to_owned()).chain((2..).map(|count| format!("{label}-{count}")));
    let mut targets = labels.map(|label| root.join("quarantine").join(label).join(path));
    let target = targets.find(|target| target.symlink_metadata().is_err()).expect("the labels do not end");
    let parent = target.parent().expect("it lies in quarantine");
    fs::create_dir_all(parent).with_context(|| format!("failed to create: `{}`", parent.display()))?;
    fs::rename(root.join(path), &target)
        .with_context(|| format!("failed to move `{}` to `{}`", path.display(), target.display()))?;
    sync_directory(parent)?;
    sync_directory(root.join(path).parent().expect("it lies on the volume"))
}
