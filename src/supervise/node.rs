//! Parses geth's command line for its socket, and for whether it starts a node at all.
//!
//! geth takes flags with one dash or two, with the value after `=` or in the next word, and a
//! variable `GETH_…` for each.

use crate::error::Refused;
use anyhow::Result;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// geth's own commands. No other argument may look like one; a flag's value can be written
/// `--flag=value`.
const COMMANDS: [&str; 25] = [
    "account",
    "attach",
    "bintrie",
    "console",
    "db",
    "download-era",
    "dump",
    "dumpconfig",
    "dumpgenesis",
    "export",
    "export-history",
    "h",
    "help",
    "import",
    "import-history",
    "import-preimages",
    "init",
    "js",
    "license",
    "prune-history",
    "removedb",
    "show-deprecated-flags",
    "snapshot",
    "version",
    "wallet",
];

/// What a command line runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// One of geth's own commands, or a request for help.
    Alone,
    /// A node.
    Beside {
        /// The command that starts it.
        command: Vec<OsString>,
        /// Where its socket will be.
        socket: PathBuf,
    },
    /// A program that is not called `geth`: its arguments are not parsed.
    NotGeth,
}

/// What applies if geth's command line does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults<'a> {
    /// geth's socket.
    pub socket: &'a Path,
    /// geth's data directory; geth's own default if not known.
    pub datadir: Option<&'a Path>,
}

impl Invocation {
    /// Parses a command line, and geth's variables.
    ///
    /// # Errors
    /// If geth would open no socket, or its path cannot be known.
    pub(crate) fn read(
        command: &[OsString],
        defaults: Defaults<'_>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self> {
        let is_geth = |program: &OsStr| Path::new(program).file_name() == Some("geth".as_ref());
        let Some((geth, arguments)) = command.split_first().filter(|(program, _)| is_geth(program))
        else {
            return Ok(Self::NotGeth);
        };
        let Some(flags) = Flags::read(arguments, variable) else { return Ok(Self::Alone) };
        if flags.is_ipc_disabled {
            let what = "geth would open no IPC socket, which spyhop needs";
            let hint = "leave out --ipcdisable; the socket is reachable on this machine only, in \
                a container from inside it";
            return Err(Refused::new(what, hint).into());
        }
        let mut added = Vec::new();
        let mut datadir = flags.datadir;
        // The flag would override a path in a configuration file.
        if let (None, false, Some(default)) = (&datadir, flags.is_configured, defaults.datadir) {
            added.extend(["--datadir".into(), default.into()]);
            datadir = Some(default.into());
        }
        let socket = match (flags.ipcpath, datadir) {
            (None, _) => {
                let socket = std::path::absolute(defaults.socket)?;
                added.splice(0..0, ["--ipcpath".into(), socket.clone().into()]);
                socket
            }
            (Some(path), _) if path.as_bytes().contains(&b'/') => path.into(),
            // geth puts a bare name into its data directory.
            (Some(name), Some(datadir)) => Path::new(&datadir).join(name),
            (Some(name), None) => {
                let what = format!(
                    "the location of `{}` depends on geth's data directory, which only a \
                    configuration file, or geth, knows",
                    name.display()
                );
                return Err(Refused::new(what, "give --ipcpath an absolute path").into());
            }
        };
        let command =
            [geth].into_iter().cloned().chain(added).chain(arguments.iter().cloned()).collect();
        Ok(Self::Beside { command, socket })
    }
}

/// Creates the directory of a socket if it is missing, and tests whether a file can be created in
/// it.
///
/// # Errors
/// If geth could create no socket there.
pub(crate) fn prepare(socket: &Path) -> Result<()> {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let probe = directory.join(".spyhop");
    let tried = fs::create_dir_all(directory)
        .and_then(|()| File::create(&probe))
        .and_then(|_| fs::remove_file(&probe));
    tried.map_err(|error: io::Error| {
        let directory = directory.display();
        let what = format!("geth's socket cannot be created in {directory}: {error}");
        Refused::new(
            what,
            format!("if the root file system is read-only, mount a tmpfs: --tmpfs {directory}"),
        )
        .into()
    })
}

/// geth's flags and variables, the last flag first.
struct Flags {
    datadir: Option<OsString>,
    ipcpath: Option<OsString>,
    is_ipc_disabled: bool,
    is_configured: bool,
}

impl Flags {
    /// `None` if they ask for something other than a node.
    fn read(arguments: &[OsString], variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        // A variable set to the empty string, as Compose files leave it, counts as unset.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut flags = Self {
            datadir: variable("GETH_DATADIR"),
            ipcpath: variable("GETH_IPCPATH"),
            is_ipc_disabled: variable("GETH_IPCDISABLE").is_some_and(|value| is_true(&value)),
            is_configured: variable("GETH_CONFIG").is_some(),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let Some((name, value)) = flag(word) else {
                if COMMANDS.iter().any(|command| word == command) {
                    return None;
                }
                continue;
            };
            let mut take_value = || value.map(OsStr::to_owned).or_else(|| words.next().cloned());
            match name {
                b"datadir" => flags.datadir = take_value(),
                b"ipcpath" => flags.ipcpath = take_value(),
                b"config" => flags.is_configured = take_value().is_some(),
                b"ipcdisable" => flags.is_ipc_disabled = value.is_none_or(is_true),
                b"h" | b"help" | b"v" | b"version" => return None,
                _ => {}
            }
        }
        Some(flags)
    }
}

/// The name of a flag without its dashes, and the value after `=`.
fn flag(word: &OsStr) -> Option<(&[u8], Option<&OsStr>)> {
    let word = word.as_bytes();
    let flag = word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-"))?;
    Some(match flag.iter().position(|&byte| byte == b'=') {
        Some(at) => (&flag[..at], Some(OsStr::from_bytes(&flag[at + 1..]))),
        None => (flag, None),
    })
}

/// A boolean as geth parses it: Go's `strconv.ParseBool`. geth itself refuses anything else.
fn is_true(value: &OsStr) -> bool {
    !["", "0", "f", "F", "false", "False", "FALSE"].iter().any(|no| value == *no)
}
