//! A reader's scratch directory on the volume, removed with its owner. A starting writer leaves it
//! alone; the next writer or reader removes those that killed readers left, recognised by their
//! free lock.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// A reader's scratch directory; it is not created before it is needed.
#[derive(Debug)]
pub struct Scratch {
    root: PathBuf,
    /// The directory, and the lock that marks it as in use.
    made: OnceLock<(PathBuf, File)>,
}

impl Scratch {
    /// One on the volume at `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), made: OnceLock::new() }
    }

    /// Its directory, created on first use.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn directory(&self) -> Result<&Path> {
        if let Some((directory, _)) = self.made.get() {
            return Ok(directory);
        }
        let parent = parent(&self.root);
        clear_stale(&self.root)?;
        let made = make(&parent)
            .with_context(|| format!("failed to create a directory in: `{}`", parent.display()))?;
        Ok(&self.made.get_or_init(|| made).0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some((directory, _)) = self.made.get() {
            // The next one clears leftovers.
            let _ =
                fs::remove_dir_all(directory).and_then(|()| fs::remove_file(lock_of(directory)));
        }
    }
}

/// Removes what killed readers left.
pub(super) fn clear_stale(root: &Path) -> Result<()> {
    let parent = parent(root);
    let clear = || -> std::io::Result<()> {
        for entry in fs::read_dir(&parent)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "lock") {
                let lock = File::open(&path)?;
                if lock.try_lock().is_ok() {
                    let directory = path.with_extension("");
                    if directory.exists() {
                        fs::remove_dir_all(directory)?;
                    }
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(())
    };
    match clear() {
        // Another process may clear it, too.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to clear: `{}`", parent.display()))
        }
        _ => Ok(()),
    }
}

fn make(parent: &Path) -> std::io::Result<(PathBuf, File)> {
    fs::create_dir_all(parent)?;
    loop {
        // Processes of two containers may have the same ID.
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        let directory = parent.join(format!("{}-{nanos}", std::process::id()));
        let lock = File::create_new(lock_of(&directory))?;
        lock.lock()?;
        // Before it was locked, it may have been taken for a leftover.
        if lock_of(&directory).exists() {
            fs::create_dir(&directory)?;
            return Ok((directory, lock));
        }
    }
}

fn lock_of(directory: &Path) -> PathBuf {
    directory.with_extension("lock")
}

fn parent(root: &Path) -> PathBuf {
    root.join(".spyhop/scratch")
}
