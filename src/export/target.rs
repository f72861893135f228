//! The directory of the files: what it may be, what it is for, and who writes to it.

use super::format::Format;
use super::slices::Partition;
use crate::error::Refused;
use crate::store::{Identity, create_temporary, replace_file, sync_directory};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Says what an export is.
const IDENTITY: &str = "export.json";

/// One line per finished file.
pub(super) const JOURNAL: &str = "files.jsonl";

/// Where files are written before they are renamed.
const UNFINISHED: &str = ".unfinished";

/// What must stay the same from one export into a directory to the next.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Shape {
    /// The chain.
    #[serde(flatten)]
    pub chain: Identity,
    /// How rows are written.
    pub format: Format,
    /// The blocks of a file.
    pub partition: Partition,
    /// The version of the tables' columns.
    pub layout: u32,
    /// The version that began it; a later one may continue it.
    pub spyhop_version: String,
}

/// The directory, locked for this process.
pub(super) struct Target {
    /// Its path.
    pub root: PathBuf,
    /// The journal, open for appending, with the lock.
    pub journal: File,
}

impl Target {
    /// Opens or creates the directory, and clears what a killed export left.
    ///
    /// # Errors
    /// If it is in the volume, has other files, is of another export, or cannot be written.
    pub(super) fn open(data: &Path, to: &Path, shape: Shape) -> Result<Self> {
        outside(data, to)?;
        fs::create_dir_all(to)
            .with_context(|| format!("failed to create directory: `{}`", to.display()))?;
        let root = to
            .canonicalize()
            .with_context(|| format!("failed to open directory: `{}`", to.display()))?;
        let is_ours = root.join(IDENTITY).exists();
        if !is_ours {
            empty(&root)?;
        }
        let path = root.join(JOURNAL);
        let journal = File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("failed to open: `{}`", path.display()))?;
        if journal.try_lock().is_err() {
            let what = format!("another export is writing to `{}`", root.display());
            return Err(Refused::new(what, "wait until it ends").into());
        }
        let target = Self { root, journal };
        if is_ours {
            target.same(&shape)?
        } else {
            target.begin(&shape)?
        }
        target.clear()?;
        Ok(target)
    }

    fn begin(&self, shape: &Shape) -> Result<()> {
        replace_file(&self.root.join(IDENTITY), &serde_json::to_vec_pretty(shape)?)
    }

    /// Refuses a directory of another export.
    fn same(&self, shape: &Shape) -> Result<()> {
        let path = self.root.join(IDENTITY);
        let found =
            fs::read(&path).with_context(|| format!("failed to read: `{}`", path.display()));
        let found: Shape = serde_json::from_slice(&found?)
            .with_context(|| format!("`{}` is not what an export wrote", path.display()))?;
        let differs = if found.chain != shape.chain {
            "of another chain"
        } else if found.format != shape.format {
            "in another format"
        } else if found.partition != shape.partition {
            "with other blocks in a file"
        } else if found.layout != shape.layout {
            "by a version of spyhop with other columns"
        } else {
            return Ok(());
        };
        let what = format!("`{}` has an export {differs}", self.root.display());
        let hint = format!("use another directory; `{IDENTITY}` in it says what this one is");
        Err(Refused::new(what, hint).into())
    }

    /// Where a file is written before it is renamed to `name`, created anew.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(super) fn temporary(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(UNFINISHED).join(name.replace('/', "-"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("failed to remove: `{}`", path.display()))
            }
            _ => Ok(path),
        }
    }

    /// Renames a complete and durable file to its final name.
    ///
    /// # Errors
    /// If the file system refuses.
    pub(super) fn commit(&self, temporary: &Path, name: &str) -> Result<()> {
        let path = self.root.join(name);
        let parent = path.parent().expect("it is in the target");
        if !parent.exists() {
            fs::create_dir_all(parent)
                .with_context(|| format!("failed to create directory: `{}`", parent.display()))?;
            sync_directory(&self.root)?;
        }
        fs::rename(temporary, &path)
            .with_context(|| format!("failed to rename to: `{}`", path.display()))?;
        sync_directory(parent)
    }

    /// Removes unfinished files; this process is the only one.
    fn clear(&self) -> Result<()> {
        let path = self.root.join(UNFINISHED);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("failed to clear: `{}`", path.display()));
            }
            _ => {}
        }
        fs::create_dir(&path)
            .and_then(|()| create_temporary(&path.join("writable")))
            .and_then(|_| fs::remove_file(path.join("writable")))
            .with_context(|| format!("failed to write to: `{}`", self.root.display()))
    }
}

/// Refuses a directory that is the volume, or one of its own.
fn outside(data: &Path, to: &Path) -> Result<()> {
    let absolute = std::path::absolute(to)?;
    let there = absolute.ancestors().find_map(|path| Some((path, path.canonicalize().ok()?)));
    let Some((path, followed)) = there else { bail!("no directory: `{}`", to.display()) };
    let to = followed.join(absolute.strip_prefix(path)?);
    let Ok(inside) = to.strip_prefix(data) else { return Ok(()) };
    let own = ["chain", "tail", "whales", "lake", "quarantine", ".spyhop"];
    if inside.as_os_str().is_empty() || own.iter().any(|own| inside.starts_with(own)) {
        let what = format!("`{}` is the data directory's own", to.display());
        let hint = format!("use a directory beside it, or `{}`", data.join("export").display());
        return Err(Refused::new(what, hint).into());
    }
    Ok(())
}

/// Refuses a directory that has files of somebody else.
fn empty(root: &Path) -> Result<()> {
    let known = ["export.new", JOURNAL, UNFINISHED, "lost+found"];
    let entries = fs::read_dir(root)
        .with_context(|| format!("failed to list: `{}`", root.display()))?
        .collect::<std::io::Result<Vec<_>>>()?;
    match entries.iter().find(|entry| known.iter().all(|known| entry.file_name() != *known)) {
        None => Ok(()),
        Some(entry) => {
            let what = format!(
                "`{}` has other files, such as `{}`",
                root.display(),
                entry.file_name().display()
            );
            Err(Refused::new(what, "use an empty or a new directory").into())
        }
    }
}
