//! Checks of a volume before anything is written to it: each error says what to do, and no check
//! changes existing files.

use super::{read_chain, sync_directory};
use crate::error::Refused;
use crate::rows::CHAIN_TABLES;
use anyhow::{Context, Result};
use rustix::fs::{Access, FlockOperation, StatVfsMountFlags, access, fcntl_lock, statfs, statvfs};
use rustix::process::geteuid;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Checks a volume before it is written.
///
/// # Errors
/// If it cannot be written, is not safe to write, or was written by a newer spyhop.
pub(super) fn check(root: &Path) -> Result<()> {
    check_name(root, NAME_SYNTAX)?;
    // A directory that does not exist yet depends on its parent.
    let there = root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return refuse(
            format!("`{}` is not a directory", there.display()),
            "give a directory for the data",
        );
    }
    if statvfs(there)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return refuse(
            format!("`{}` is on a file system that is mounted read-only", root.display()),
            "mount it writable (no `:ro`); one that turned read-only by itself has errors: see \
            the kernel's log",
        );
    }
    writable(there)?;
    for name in
        ["chain", "tail", "quarantine", "whales", ".spyhop", ".spyhop/reorgs", ".spyhop/scratch"]
    {
        not_a_link(&root.join(name))?;
        a_directory(&root.join(name))?;
        writable(&root.join(name))?;
    }
    for name in [".spyhop/lock", ".spyhop/heartbeat"] {
        not_a_link(&root.join(name))?;
        writable(&root.join(name))?;
    }
    let lock = root.join(".spyhop/lock");
    if lock.is_dir() {
        return refuse(
            format!("`{}` is a directory, not a file", lock.display()),
            "remove it: the file is created again",
        );
    }
    read_chain(root).map(drop)
}

/// The path of a volume for a reader, without symbolic links.
///
/// # Errors
/// If there is no such directory.
pub(crate) fn existing(root: &Path) -> Result<PathBuf> {
    let hint = "give the directory that `spyhop watch` writes, with --data or SPYHOP_DATA; it \
        creates it when it starts";
    let refused = |why: &dyn Display| {
        Refused::new(format!("no data directory: `{}`: {why}", root.display()), hint)
    };
    let found = root.canonicalize().map_err(|error| refused(&error))?;
    if found.is_dir() { Ok(found) } else { Err(refused(&"it is a file").into()) }
}

/// Refuses anything but a directory in the place of one of the volume's directories.
fn a_directory(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => refuse(
            format!("`{}` is not a directory, as it should be", path.display()),
            "move it away; its content is recreated as far as the node has it",
        ),
        _ => Ok(()),
    }
}

/// Characters that DuckDB takes for syntax in a directory's name: separators of lists, of
/// parameters, of directories.
pub(crate) const NAME_SYNTAX: &[char] = &[',', '?', '\\'];

/// Refuses a directory whose path DuckDB, here or in a reader, would not take as a plain name.
///
/// # Errors
/// If it contains any of these characters, is not UTF-8, or has a part like `first=7`, which DuckDB
/// would read as a column's value.
pub(crate) fn check_name(root: &Path, syntax: &[char]) -> Result<()> {
    let absolute = std::path::absolute(root)?;
    // DuckDB follows links before it looks at the name.
    let there = absolute.ancestors().find_map(|path| Some((path, path.canonicalize().ok()?)));
    let followed =
        there.and_then(|(path, followed)| Some(followed.join(absolute.strip_prefix(path).ok()?)));
    for path in [Some(&absolute), followed.as_ref()].into_iter().flatten() {
        let found = match path.to_str() {
            None => Some("bytes that are not UTF-8".to_owned()),
            Some(text) => {
                text.chars().find(|char| syntax.contains(char)).map(|char| format!("`{char}`"))
            }
        };
        let column = path.iter().find(|part| {
            part.to_string_lossy().split_once('=').is_some_and(|(key, _)| is_column(key))
        });
        if let Some(found) = found.or(column.map(|part| format!("`{}`", part.to_string_lossy()))) {
            return refuse(
                format!(
                    "`{}` cannot be the data directory: DuckDB does not accept {found} in a name",
                    path.display()
                ),
                "rename it, or mount it under another path",
            );
        }
    }
    Ok(())
}

/// Whether DuckDB would find a column of that name, in any case, in or above our files.
fn is_column(key: &str) -> bool {
    let columns = CHAIN_TABLES.iter().flat_map(|table| table.columns).map(|column| column.name);
    columns.chain(["first", "last"]).any(|name| name.eq_ignore_ascii_case(key))
}

/// Tests a volume in a directory of it that is otherwise empty.
///
/// # Errors
/// If the store does not work on it.
pub(super) fn try_out(root: &Path, directory: &Path) -> Result<()> {
    if let Some(FileSystem { name, danger }) = kind(root)? {
        tracing::warn!(path = %root.display(), file_system = name, "{danger}");
    }
    let probes = [directory.join("probe"), directory.join("probe.new")];
    let probed = probe(&probes[0], &probes[1]);
    for path in probes {
        // It may not exist, or have been renamed.
        let _ = fs::remove_file(path);
    }
    match probed.with_context(|| format!("failed to test the volume: `{}`", root.display()))? {
        None => Ok(()),
        Some(fault) => cannot_hold(root, fault),
    }
}

/// Refuses a volume that lacks what the store needs.
pub(super) fn cannot_hold(root: &Path, fault: &str) -> Result<()> {
    let name = kind(root)?.map_or("", |kind| kind.name);
    refuse(
        format!("`{}` cannot store the data: {fault} {name}", root.display()).trim_end().to_owned(),
        "use a local file system or a named volume of the container engine; nothing was touched",
    )
}

fn refuse(message: String, hint: &str) -> Result<()> {
    Err(Refused::new(message, hint).into())
}

/// Refuses a link in place of the store's own files: whoever put it there would choose what is
/// written to.
fn not_a_link(path: &Path) -> Result<()> {
    if path.is_symlink() {
        return refuse(
            format!("`{}` is a symbolic link", path.display()),
            "remove it: the data directory itself may be a link, but nothing inside it",
        );
    }
    Ok(())
}

/// Refuses what exists but cannot be written.
fn writable(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let wanted =
        if metadata.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    if access(path, wanted).is_ok() {
        return Ok(());
    }
    let user = geteuid().as_raw();
    let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
    refuse(
        format!(
            "`{}` cannot be written by user {user}: it belongs to {owner}:{group} with mode \
            {mode:04o}",
            path.display()
        ),
        &format!(
            "`chown -R {user}` the data directory on the host, or run as its owner (`--user \
            {owner}:{group}`)"
        ),
    )
}

/// A file system that needs a warning.
#[derive(Clone, Copy, Debug)]
struct FileSystem {
    name: &'static str,
    danger: &'static str,
}

/// Identifies a file system by its magic number (Linux `include/uapi/linux/magic.h` and the file
/// systems' own headers).
fn kind(path: &Path) -> Result<Option<FileSystem>> {
    const SHARED: &str = "locks, renames and syncs are known to be unreliable here; a local file \
        system or a named volume is safe";
    const FLEETING: &str =
        "data here is lost with the container or the machine; mount a volume to keep it";
    // Some are sign-extended, being 32 bits wide.
    let magic = statfs(path)
        .with_context(|| format!("failed to stat file system: `{}`", path.display()))?
        .f_type as u32;
    let (name, danger) = match magic {
        0x0000_6969 => ("NFS", SHARED),
        0x0000_517b | 0xff53_4d42 | 0xfe53_4d42 => ("SMB", SHARED),
        0x0102_1997 => ("9p", SHARED),
        0x6573_5546 => ("FUSE or virtiofs", SHARED),
        0x786f_4256 => ("vboxsf", SHARED),
        0x00c3_6400 => ("Ceph", SHARED),
        0x0102_1994 => ("tmpfs", FLEETING),
        0x794c_7630 => ("overlayfs", FLEETING),
        _ => return Ok(None),
    };
    Ok(Some(FileSystem { name, danger }))
}

/// Tests what the store relies on: an exclusive lock, DuckDB's kind of lock, a rename that leaves
/// the old file to its readers, durable names. Returns what fails.
///
/// # Errors
/// If it could not be tested, for lack of space.
fn probe(path: &Path, aside: &Path) -> Result<Option<&'static str>> {
    let mut old = File::options().read(true).write(true).create_new(true).open(path)?;
    old.write_all(b"old")?;
    old.sync_all()?;
    let other = File::open(path)?;
    if old.try_lock().is_err() {
        return Ok(Some("files cannot be locked"));
    }
    if other.try_lock().is_ok() {
        return Ok(Some("a lock does not keep others out"));
    }
    if fcntl_lock(&old, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(Some("files cannot be locked as DuckDB locks them"));
    }
    File::create_new(aside)?.write_all(b"new")?;
    if let Err(error) = fs::rename(aside, path) {
        return match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Err(error.into()),
            _ => Ok(Some("a file that is open cannot be renamed over")),
        };
    }
    let mut text = String::new();
    let read = (&other).read_to_string(&mut text);
    if read.is_err() || text != "old" || fs::read(path).ok().as_deref() != Some(b"new") {
        return Ok(Some("a rename changes files that are already open"));
    }
    let directory = path.parent().context("the probe is in a directory")?;
    Ok(sync_directory(directory).is_err().then_some("directory entries cannot be synced"))
}
