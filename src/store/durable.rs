//! Writes that survive a power cut.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("failed to sync directory: `{}`", path.display()))
}

/// Creates a file that will be renamed into place, replacing any leftover. It follows no link.
pub(crate) fn create_temporary(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

/// Replaces a file by one with these bytes: a reader sees the complete old or new file.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension("new");
    create_temporary(&aside)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .with_context(|| format!("failed to write: `{}`", aside.display()))?;
    fs::rename(&aside, path)
        .with_context(|| format!("failed to rename to: `{}`", path.display()))?;
    sync_directory(path.parent().expect("a file is in a directory"))
}

/// Free bytes on the file system of `path`.
pub fn free_bytes(path: &Path) -> Result<u64> {
    file_system_bytes(path).map(|(free, _)| free)
}

/// Free and all bytes of the file system of `path`.
pub(crate) fn file_system_bytes(path: &Path) -> Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)
        .with_context(|| format!("failed to stat file system: `{}`", path.display()))?;
    Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}
