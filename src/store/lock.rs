//! One writer per volume: it locks `.spyhop/lock`, and the data directory itself, which protects
//! even if somebody removes the file.

use super::volume;
use crate::error::Refused;
use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;
use std::fs::{File, Metadata, TryLockError};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often to try a lock: a process that only checks for a writer locks it for a moment.
const TRIES: u32 = 10;
const TRY_EVERY: Duration = Duration::from_millis(20);

/// The locks, released on drop.
#[derive(Debug)]
pub(super) struct Lock {
    root: PathBuf,
    directory: File,
    file: File,
}

impl Lock {
    /// Locks the volume.
    ///
    /// # Errors
    /// If another process has locked it, or files cannot be locked there.
    pub(super) fn take(root: &Path) -> Result<Self> {
        let directory =
            File::open(root).with_context(|| format!("failed to open: `{}`", root.display()))?;
        // If the file system cannot lock directories, the file has to do.
        let is_free = !is_held(&directory).unwrap_or(false);
        let Some(file) = is_free.then(|| file(root)).transpose()?.flatten() else {
            return Err(refused(root));
        };
        Ok(Self { root: root.to_owned(), directory, file })
    }

    /// Writes the process ID into the lock file, for the message to others.
    pub(super) fn sign(&self) -> Result<()> {
        // If it was replaced, it may be another process's file.
        if self.file.metadata()?.nlink() == 1 {
            self.file.set_len(0)?;
            write!(&self.file, "{}", std::process::id())?;
        }
        Ok(())
    }

    /// Checks that the locked volume is still this one, and locks the file again if it was removed.
    ///
    /// # Errors
    /// If another process has locked it by now, or the data directory was replaced.
    pub(super) fn keep(&mut self) -> Result<()> {
        ensure!(
            is_same(&self.directory, std::fs::metadata(&self.root))?,
            "`{}` was replaced while it was being written; start spyhop again",
            self.root.display()
        );
        if !is_same(&self.file, std::fs::symlink_metadata(path(&self.root)))? {
            self.file = file(&self.root)?.ok_or_else(|| refused(&self.root))?;
            self.sign()?;
        }
        Ok(())
    }
}

/// Whether a writer has locked the volume at `root`; `None` if that is unknown.
pub(crate) fn is_locked(root: &Path) -> Option<bool> {
    let is_locked = |path: &Path| match File::open(path).ok()?.try_lock_shared() {
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    };
    match (is_locked(root), is_locked(&path(root))) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (_, of_file) => of_file,
    }
}

fn path(root: &Path) -> PathBuf {
    root.join(".spyhop/lock")
}

/// The locked file; `None` if another process has locked it.
fn file(root: &Path) -> Result<Option<File>> {
    let path = path(root);
    loop {
        let mut options = File::options();
        options
            .create(true)
            .truncate(false)
            .write(true)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32);
        let file = options
            .open(&path)
            .with_context(|| format!("failed to open lock: `{}`", path.display()))?;
        match is_held(&file) {
            Ok(false) => {}
            Ok(true) => return Ok(None),
            Err(error) => volume::cannot_hold(root, &format!("files cannot be locked ({error})"))?,
        }
        // It may have been removed since it was opened.
        if is_same(&file, std::fs::symlink_metadata(&path))? {
            return Ok(Some(file));
        }
    }
}

/// Whether another process has the lock; takes it if not.
fn is_held(file: &File) -> std::io::Result<bool> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_EVERY),
        }
    }
    Ok(true)
}

/// Whether an open file is the one that was found; false if none was.
fn is_same(file: &File, found: std::io::Result<Metadata>) -> Result<bool> {
    let of = |metadata: Metadata| (metadata.dev(), metadata.ino());
    match found {
        Ok(found) => Ok(of(found) == of(file.metadata()?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn refused(root: &Path) -> anyhow::Error {
    let process = std::fs::read_to_string(path(root)).unwrap_or_default();
    Refused::new(
        format!("another spyhop writes to `{}` (process {})", root.display(), process.trim()),
        "stop it first, or give this one a data directory of its own; `watch` builds history by \
        itself, from its `--from` on",
    )
    .into()
}
