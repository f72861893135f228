//! Checks of files against their manifests. Nothing is read for a merge, a ranking, a new
//! generation or balances before its BLAKE3 is verified. Only a failed check counts as damage; a
//! file that cannot be read right now does not.

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
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Bytes hashed at a time: enough for all lanes of the processor, and not more than its cache.
const HASH_BYTES: usize = 128 << 10;

/// Files that this process has verified.
#[derive(Debug, Default)]
pub(crate) struct CheckedFiles(Mutex<HashMap<PathBuf, (Stamp, String)>>);

/// Whether files that were verified before and have not changed are hashed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// All files.
    All,
    /// Only new or changed files.
    New,
}

/// The cost of a check.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Bytes that were hashed.
    pub bytes: u64,
    /// How long that took.
    pub time: Duration,
}

impl Store {
    /// Checks files of a range, or of a tail chunk, against its manifest: those of the tables for
    /// which `is_read` returns true.
    ///
    /// # Errors
    /// [`Damaged`] if one does not match, with the directory's path relative to the volume; another
    /// error if one cannot be read.
    pub(crate) fn check(
        &self,
        range: &Range,
        is_read: impl Fn(&str) -> bool,
        hash: Hash,
    ) -> Result<Cost> {
        let started = Instant::now();
        let mut bytes = 0;
        for (name, table) in range.manifest.tables.iter().filter(|(name, _)| is_read(name)) {
            bytes += self.check_file(&range.path, name, table, hash)?;
        }
        Ok(Cost { bytes, time: started.elapsed() })
    }

    /// Checks ranges before all of these tables are read from them, and logs how long that took.
    ///
    /// # Errors
    /// As [`Store::check`], and [`Stopped`](crate::stop::Stopped).
    pub(crate) fn check_all(
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

    /// Checks a table's file in a directory of the volume against its manifest entry. Returns how
    /// many bytes were hashed.
    pub(crate) fn check_file(
        &self,
        directory: &Path,
        table: &str,
        known: &TableManifest,
        hash: Hash,
    ) -> Result<u64> {
        self.checked.check_file(self.root(), directory, table, known, hash)
    }
}

impl CheckedFiles {
    /// Checks a table's file in a directory of the volume at `root` against its manifest entry.
    /// Returns how many bytes were hashed.
    ///
    /// # Errors
    /// As the function [`check_file`].
    pub(crate) fn check_file(
        &self,
        root: &Path,
        directory: &Path,
        table: &str,
        known: &TableManifest,
        hash: Hash,
    ) -> Result<u64> {
        let path = table_path(directory, table);
        if hash == Hash::New
            && let QuickCheck::MayMatch(stamp) = quick_check(&root.join(&path), known)?
            && self.0.lock().expect("nothing panics while holding it").get(&path)
                == Some(&(stamp, known.blake3.clone()))
        {
            return Ok(0);
        }
        let stamp = check_file(root, directory, table, known)?;
        let mut checked = self.0.lock().expect("nothing panics while holding it");
        checked.insert(path, (stamp, known.blake3.clone()));
        Ok(known.bytes)
    }
}

/// Checks a table's file in a directory of the volume at `root` against its manifest entry.
///
/// # Errors
/// [`Damaged`] if it does not match, with the directory's path; another error if it cannot be read.
pub(crate) fn check_file(
    root: &Path,
    directory: &Path,
    table: &str,
    known: &TableManifest,
) -> Result<Stamp> {
    check_file_watched(root, directory, table, known, &|_| Ok(()))
}

/// The same; `watch` is told of bytes as they are hashed, and ends the check by an error.
pub(crate) fn check_file_watched(
    root: &Path,
    directory: &Path,
    table: &str,
    known: &TableManifest,
    watch: &dyn Fn(u64) -> io::Result<()>,
) -> Result<Stamp> {
    let path = table_path(&root.join(directory), table);
    let damaged = |reason: String| Damaged {
        path: directory.to_owned(),
        reason: format!("{table}.parquet: {reason}"),
    };
    let stamp = match quick_check(&path, known)? {
        QuickCheck::MayMatch(stamp) => stamp,
        QuickCheck::Differs(reason) => return Err(damaged(reason).into()),
    };
    let found = hash_watched(&path, watch)
        .with_context(|| format!("failed to read: `{}`", path.display()))?;
    if found != known.blake3 {
        return Err(damaged(format!("BLAKE3: expected {}, found {found}", known.blake3)).into());
    }
    Ok(stamp)
}

/// What a file's metadata shows, without reading it.
enum QuickCheck {
    /// It may match.
    MayMatch(Stamp),
    /// It does not match: it does not exist or has another length.
    Differs(String),
}

/// Compares a file's metadata with its manifest entry.
fn quick_check(path: &Path, known: &TableManifest) -> Result<QuickCheck> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if is_gone(&error) => {
            return Ok(QuickCheck::Differs(format!("expected a file, found none ({error})")));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("failed to open: `{}`", path.display()));
        }
    };
    if !found.is_file() {
        return Ok(QuickCheck::Differs("expected a file, found something else".to_owned()));
    }
    if found.len() != known.bytes {
        return Ok(QuickCheck::Differs(format!(
            "length: expected {}, found {}",
            known.bytes,
            found.len()
        )));
    }
    Ok(QuickCheck::MayMatch(Stamp::of(&found)))
}

/// Whether the file cannot exist.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// Finds missing or truncated files of a range without reading them; `None` if there are none.
pub(crate) fn missing_or_cut(
    root: &Path,
    directory: &Path,
    manifest: &Manifest,
) -> Result<Option<String>> {
    for (name, table) in &manifest.tables {
        if let QuickCheck::Differs(reason) =
            quick_check(&table_path(&root.join(directory), name), table)?
        {
            return Ok(Some(format!("{name}.parquet: {reason}")));
        }
    }
    Ok(None)
}

/// BLAKE3 of a file.
pub(crate) fn hash_of(path: &Path) -> io::Result<String> {
    hash_watched(path, &|_| Ok(()))
}

fn hash_watched(path: &Path, watch: &dyn Fn(u64) -> io::Result<()>) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().to_string()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                watch(read as u64)?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
