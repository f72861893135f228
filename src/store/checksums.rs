//! Whether what lies on the volume is what was written. Nothing is read into a merge, a ranking, a
//! next generation or for hydration before the BLAKE3 that its manifest has of it is checked; only
//! a check that fails is damage, a file that cannot be read just now is not.

use super::Store;
use super::damaged::Damaged;
use super::manifest::{Manifest, TableManifest};
use super::range::Range;
use super::stamp::Stamp;
use super::table_file::table_path;
use crate::stop::Stop;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Files that were found to be what was written, by this process.
#[derive(Debug, Default)]
pub struct CheckedFiles(Mutex<HashMap<PathBuf, (Stamp, String)>>);

/// Whether files that were hashed before, and have not changed since, are hashed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// All files.
    All,
    /// Those that are new or have changed.
    New,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Bytes that were hashed.
    pub bytes: u64,
    /// How long that took.
    pub time: Duration,
}

impl Store {
    /// Holds files of a range, or of a chunk of the tail, against its manifest: those of the tables
    /// for which `is_read` says so.
    ///
    /// # Errors
    /// [`Damaged`] where one is not what was written, with the directory's path relative to the
    /// volume; else where one cannot be read.
    pub fn check(&self, range: &Range, is_read: impl Fn(&str) -> bool, hash: Hash) -> Result<Cost> {
        let started = Instant::now();
        let mut bytes = 0;
        for (name, table) in range.manifest.tables.iter().filter(|(name, _)| is_read(name)) {
            bytes += self.check_file(&range.path, name, table, hash)?;
        }
        Ok(Cost { bytes, time: started.elapsed() })
    }

    /// Checks ranges before all of these tables is read out of them, and logs what that took.
    ///
    /// # Errors
    /// As [`Store::check`], and [`Stopped`](crate::stop::Stopped).
    pub fn check_all(
        &self,
        ranges: &[Range],
        is_read: impl Fn(&str) -> bool,
        hash: Hash,
        stop: &Stop,
    ) -> Result<()> {
        let (mut bytes, mut time) = (0, Duration::ZERO);
        for range in ranges {
            stop.check()?;
            let cost = self.check(range, &is_read, hash)?;
            (bytes, time) = (bytes + cost.bytes, time + cost.time);
        }
        if let (true, Some((bottom, top))) = (bytes > 0, ranges.first().zip(ranges.last())) {
            let (first, last, ms) = (bottom.first, top.last, time.as_millis() as u64);
            tracing::info!(first, last, files_mb = bytes as f64 / 1e6, ms, "checksums hold");
        }
        Ok(())
    }

    /// Holds a table's file in a directory of the volume against what is known of it. Says how many
    /// bytes were hashed.
    pub fn check_file(
        &self,
        directory: &Path,
        table: &str,
        known: &TableManifest,
        hash: Hash,
    ) -> Result<u64> {
        let path = table_path(directory, table);
        if hash == Hash::New
            && let Written::Perhaps(stamp) = look(&self.root().join(&path), known)?
            && self.checked.0.lock().expect("nothing panics while holding it").get(&path)
                == Some(&(stamp, known.blake3.clone()))
        {
            return Ok(0);
        }
        let stamp = check_file(self.root(), directory, table, known)?;
        let mut checked = self.checked.0.lock().expect("nothing panics while holding it");
        checked.insert(path, (stamp, known.blake3.clone()));
        Ok(known.bytes)
    }
}

/// Holds a table's file in a directory of the volume at `root` against what is known of it.
///
/// # Errors
/// [`Damaged`] where it is not what was written, with the directory's path; else where it cannot be
/// read.
pub fn check_file(
    root: &Path,
    directory: &Path,
    table: &str,
    known: &TableManifest,
) -> Result<Stamp> {
    let path = table_path(&root.join(directory), table);
    let damaged = |reason: String| Damaged {
        path: directory.to_owned(),
        reason: format!("{table}.parquet: {reason}"),
    };
    let stamp = match look(&path, known)? {
        Written::Perhaps(stamp) => stamp,
        Written::Not(reason) => return Err(damaged(reason).into()),
    };
    let found = hash_of(&path).with_context(|| format!("failed to read: `{}`", path.display()))?;
    if found != known.blake3 {
        return Err(damaged(format!("BLAKE3: expected {}, found {found}", known.blake3)).into());
    }
    Ok(stamp)
}

/// What a look at a file tells without reading it.
enum Written {
    /// It may be what was written.
    Perhaps(Stamp),
    /// It is not, for it is not there or has another length.
    Not(String),
}

/// Looks at a file.
fn look(path: &Path, known: &TableManifest) -> Result<Written> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if is_gone(&error) => {
            return Ok(Written::Not(format!("expected a file, found none ({error})")));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("failed to open: `{}`", path.display()));
        }
    };
    if !found.is_file() {
        return Ok(Written::Not("expected a file, found something else".to_owned()));
    }
    if found.len() != known.bytes {
        return Ok(Written::Not(format!(
            "length: expected {}, found {}",
            known.bytes,
            found.len()
        )));
    }
    Ok(Written::Perhaps(Stamp::of(&found)))
}

/// Whether no file can be there.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// What tells without reading a range's files that they are not what was written; `None` where
/// nothing does.
///
/// # Errors
/// Where it cannot be looked at.
pub fn missing_or_cut(
    root: &Path,
    directory: &Path,
    manifest: &Manifest,
) -> Result<Option<String>> {
    for (name, table) in &manifest.tables {
        if let Written::Not(reason) = look(&table_path(&root.join(directory), name), table)? {
            return Ok(Some(format!("{name}.parquet: {reason}")));
        }
    }
    Ok(None)
}

/// BLAKE3 of a file.
///
/// # Errors
/// Where it cannot be read.
pub fn hash_of(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_string())
}
