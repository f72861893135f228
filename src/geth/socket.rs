//! Checks of the socket's path.

use crate::error::Refused;
use rustix::fs::{Mode, OFlags, open};
use std::fs::metadata;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Maximum bytes of a socket's path: `sun_path` of unix(7) without its last zero.
const PATH_BYTES_MAX: usize = 107;

/// Refuses a path on which no node will ever listen. A missing socket, or one on which nobody
/// listens, is fine: a node may still start.
///
/// # Errors
/// What is wrong with the path, and which would be right.
pub(crate) fn check(path: &Path) -> Result<(), Refused> {
    let shown = path.display();
    let refuse = |what: &str, hint: &str| Err(Refused::new(format!("`{shown}` {what}"), hint));
    let found = metadata(path).map(|metadata| metadata.file_type());
    match found {
        Ok(kind) if kind.is_socket() => Ok(()),
        Ok(kind) if kind.is_dir() => refuse(
            "is a directory, not geth's socket",
            &format!("name the socket in it: {}", path.join("geth.ipc").display()),
        ),
        Ok(_) => refuse(
            "is a file, not geth's socket",
            "name the socket that geth opens: geth.ipc, or what its --ipcpath says",
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => match never(&path.to_string_lossy()) {
            Some((what, hint)) => refuse(what, hint),
            None => Ok(()),
        },
        Err(error) if may_pass(&error) => Ok(()),
        Err(error) => refuse(
            &format!("cannot be geth's socket: {error}"),
            "name the path of the socket that geth opens",
        ),
    }
}

/// What is wrong with a path at which nothing exists, judged by its text.
fn never(path: &str) -> Option<(&'static str, &'static str)> {
    let is_address =
        |(host, port): (&str, &str)| !host.contains('/') && port.parse::<u16>().is_ok();
    if path.is_empty() {
        Some(("is no path", "name the path of geth's socket"))
    } else if path.contains("://") || path.rsplit_once(':').is_some_and(is_address) {
        Some((
            "is an address, not the path of geth's socket",
            "the chain is read over the socket alone: name its path, geth.ipc",
        ))
    } else if path.starts_with("ipc:") || path.starts_with("unix:") {
        Some(("is not a path", "name the path alone, without the part before the colon"))
    } else if path.starts_with('~') {
        Some((
            "begins with `~`, which nothing has expanded",
            "write an absolute path, or `$HOME` for the `~`",
        ))
    } else if path.starts_with(r"\\") {
        Some((
            "is a Windows pipe, not the path of a socket",
            "run spyhop on the system that geth runs on",
        ))
    } else {
        None
    }
}

/// Whether the system's error about a path may go away.
fn may_pass(error: &io::Error) -> bool {
    let loops = error.raw_os_error() == Some(libc::ELOOP);
    !loops
        && !matches!(
            error.kind(),
            ErrorKind::NotADirectory | ErrorKind::InvalidFilename | ErrorKind::InvalidInput
        )
}

/// The path to connect to. A path that is too long is opened first and reached by its descriptor,
/// which must live until then.
pub(super) fn reach(path: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    if path.as_os_str().as_bytes().len() <= PATH_BYTES_MAX {
        return Ok((path.to_owned(), None));
    }
    let socket = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let descriptors = Path::new("/proc/self/fd");
    if !descriptors.exists() {
        let what = format!(
            "its path has more than {PATH_BYTES_MAX} bytes, and there is no /proc: make a link to \
            it that is shorter"
        );
        return Err(io::Error::new(ErrorKind::InvalidFilename, what));
    }
    Ok((descriptors.join(socket.as_raw_fd().to_string()), Some(socket)))
}
