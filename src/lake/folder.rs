//! A lake in a directory.

use super::target::{Listed, Placed, Target};
use crate::error::Refused;
use crate::store::{create_temporary, sync_directory};
use anyhow::{Context, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where files are made before they get their names; engines read only the tables' directories.
const TEMPORARY: &str = ".tmp";

/// The age from which a temporary file is a killed process's: one that is written is younger.
const STALE: Duration = Duration::from_secs(3_600);

/// A directory of the local machine.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Temporary files so far, for their names.
    made: AtomicU64,
}

impl Folder {
    /// Opens or creates the directory, and removes what killed processes left.
    ///
    /// # Errors
    /// If it cannot be created or written.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let folder = Self { root: root.to_owned(), made: AtomicU64::new(0) };
        folder.create_directory(Path::new(TEMPORARY))?;
        folder.clear_stale()?;
        Ok(folder)
    }

    fn clear_stale(&self) -> Result<()> {
        let directory = self.root.join(TEMPORARY);
        let context = || format!("failed to list: `{}`", directory.display());
        for entry in fs::read_dir(&directory).with_context(context)? {
            let entry = entry.with_context(context)?;
            // Somebody else's files have other names.
            let name = entry.file_name();
            let parts = name.to_str().unwrap_or("").split('-').map(|part| part.parse::<u128>());
            if parts.clone().count() != 3 || parts.into_iter().any(|part| part.is_err()) {
                continue;
            }
            // Another process may have removed or renamed it meanwhile.
            let Ok(modified) = entry.metadata().and_then(|found| found.modified()) else {
                continue;
            };
            if modified.elapsed().is_ok_and(|age| age > STALE) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Creates a directory and those above it, durably.
    fn create_directory(&self, path: &Path) -> Result<()> {
        let path = self.root.join(path);
        if path.is_dir() {
            return Ok(());
        }
        let above = path.ancestors().skip(1).take_while(|above| !above.exists()).count();
        fs::create_dir_all(&path)
            .with_context(|| format!("failed to create directory: `{}`", path.display()))?;
        path.ancestors()
            .skip(1)
            .take(above + 1)
            .filter(|above| !above.as_os_str().is_empty())
            .try_for_each(sync_directory)
    }

    fn temporary(&self) -> PathBuf {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        // Two containers may have processes of the same number.
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        self.root.join(TEMPORARY).join(format!("{}-{time}-{number}", process::id()))
    }

    /// Writes a temporary file, durably, lets `name` give it its name, and removes what is left.
    fn write<T>(
        &self,
        path: &Path,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
        name: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<T> {
        let parent = path.parent().expect("a file is in a directory");
        self.create_directory(parent)?;
        let temporary = self.temporary();
        let named = create_temporary(&temporary)
            .and_then(|mut file| {
                fill(&mut file)?;
                file.sync_all()
            })
            .and_then(|()| name(&temporary));
        // Unless it was renamed.
        let _ = fs::remove_file(&temporary);
        named.with_context(|| format!("failed to write: `{}`", path.display()))
    }
}

impl Target for Folder {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn list(&self, directory: &str) -> Result<Vec<Listed>> {
        let directory = self.root.join(directory);
        let context = || format!("failed to list: `{}`", directory.display());
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(context)?,
        };
        let mut listed = Vec::new();
        for entry in entries {
            let entry = entry.with_context(context)?;
            let found = match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                found => found.with_context(context)?,
            };
            // Not ours: our names are ASCII.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if found.is_file() {
                // A link has its file's time of modification, and changes its time of change.
                let changed_s = found.mtime().max(found.ctime());
                let changed_ms = u64::try_from(changed_s).unwrap_or(0) * 1_000;
                listed.push(Listed { name, bytes: found.len(), changed_ms });
            }
        }
        Ok(listed)
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let path = self.root.join(path);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            bytes => {
                bytes.map(Some).with_context(|| format!("failed to read: `{}`", path.display()))
            }
        }
    }

    fn create(&self, path: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.root.join(path);
        let fill = |file: &mut File| file.write_all(bytes);
        let created =
            self.write(&path, fill, |temporary| match link_or_rename(temporary, &path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
                linked => linked.map(|()| true),
            })?;
        sync_directory(path.parent().expect("a file is in a directory"))?;
        Ok(created)
    }

    fn replace(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(path);
        let fill = |file: &mut File| file.write_all(bytes);
        self.write(&path, fill, |temporary| fs::rename(temporary, &path))?;
        sync_directory(path.parent().expect("a file is in a directory"))
    }

    fn place(&self, path: &str, source: &Path, bytes: u64) -> Result<Placed> {
        let path = self.root.join(path);
        if fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
            return Ok(Placed::Present);
        }
        self.create_directory(path.parent().expect("a file is in a directory"))?;
        match fs::hard_link(source, &path) {
            Ok(()) => return Ok(Placed::Linked),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let context = || format!("failed to link: `{}`", source.display());
                return Err(error).with_context(context);
            }
            // As the kernel refuses links to files of another user.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let what = format!("failed to link `{}`: {error}", source.display());
                let hint = "run it as the user that the data belongs to, or with `--to` on another \
                    file system";
                return Err(Refused::new(what, hint).into());
            }
            // Another file system, one without links, or too many of them; or one with another
            // length is in the way.
            Err(_) => {}
        }
        let mut from = File::open(source)
            .with_context(|| format!("failed to open: `{}`", source.display()))?;
        self.write(
            &path,
            |file| io::copy(&mut from, file).map(drop),
            |temporary| fs::rename(temporary, &path),
        )?;
        Ok(Placed::Copied)
    }

    fn sync(&self, directory: &str) -> Result<()> {
        sync_directory(&self.root.join(directory))
    }

    fn delete(&self, path: &str) -> Result<()> {
        let path = self.root.join(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("failed to remove: `{}`", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Gives a temporary file its name, unless another has it.
fn link_or_rename(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            // A file system without links.
            Ok(renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE)?)
        }
        linked => linked,
    }
}
