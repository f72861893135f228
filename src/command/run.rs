//! `spyhop run`

use super::watch::Watch;
use crate::supervise::node::{self, Defaults, Invocation};
use crate::supervise::{self, Plan, Role};
use anyhow::{Context, Result};
use clap::Args;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `spyhop run`.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// Arguments of the writer, which parses them again.
    #[command(flatten)]
    watch: Watch,
    /// The command that starts geth, with its arguments.
    ///
    /// A socket or a data directory that they name is used; otherwise the socket is `--ipc`, and
    /// the data directory is `SPYHOP_GETH_DATADIR`, or geth's own default. A command of geth
    /// (`attach`, `init` …) is run alone.
    #[arg(last = true, required = true, value_name = "GETH")]
    node: Vec<OsString>,
}

/// Runs the command: its exit code is geth's. With `SPYHOP_HTTP`, there is a server too.
pub(super) fn run(arguments: &Run) -> Result<ExitCode> {
    let datadir =
        env::var_os("SPYHOP_GETH_DATADIR").filter(|path| !path.is_empty()).map(PathBuf::from);
    let defaults = Defaults { socket: arguments.watch.socket(), datadir: datadir.as_deref() };
    let (node, socket) =
        match Invocation::read(&arguments.node, defaults, |name| env::var_os(name))? {
            Invocation::Alone => return Err(supervise::replace(&arguments.node)),
            Invocation::NotGeth => (arguments.node.clone(), defaults.socket.to_owned()),
            Invocation::Beside { command, socket } => {
                node::prepare(&socket)?;
                (command, socket)
            }
        };
    let program = env::current_exe().context("failed to find this program's own file")?;
    let flags = env::args_os().skip(2).take_while(|word| word != "--");
    // If given twice, the last one counts.
    let socket = ["--ipc".into(), socket.into()];
    let command = |name: &str| [program.clone().into_os_string(), name.into()].into_iter();
    let writer = Role {
        name: "the writer",
        prefix: "spyhop",
        command: command("watch").chain(flags).chain(socket).collect(),
        ends: arguments.watch.ends(),
    };
    // The writer creates the volume once it has reached geth, and the server needs it at once. If it
    // cannot be created, both say why.
    if is_server_wanted()
        && let Err(error) = fs::create_dir_all(arguments.watch.data())
    {
        tracing::warn!("failed to create `{}`: {error}", arguments.watch.data().display());
    }
    // It reads its other settings from the environment, as the writer does.
    let server = is_server_wanted().then(|| Role {
        name: "the server",
        prefix: "server",
        command: command("serve").chain(["--data".into(), arguments.watch.data().into()]).collect(),
        ends: false,
    });
    let plan = Plan { node, others: [Some(writer), server].into_iter().flatten().collect() };
    supervise::run(&plan).map(ExitCode::from)
}

fn is_server_wanted() -> bool {
    env::var_os("SPYHOP_HTTP").is_some_and(|address| !address.is_empty())
}
