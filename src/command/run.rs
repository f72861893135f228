//! `spyhop run`

use super::watch::Watch;
use crate::supervise::{self, Plan};
use anyhow::{Context, Result};
use clap::Args;
use std::ffi::OsString;
use std::process::ExitCode;

/// Arguments of `spyhop run`.
#[derive(Args, Debug)]
pub struct Run {
    /// The writer's, which reads them again itself.
    #[command(flatten)]
    watch: Watch,
    /// geth and its arguments.
    #[arg(last = true, required = true, value_name = "GETH")]
    node: Vec<OsString>,
}

/// Runs the command: its exit code is geth's.
pub fn run(arguments: &Run) -> Result<ExitCode> {
    let program = std::env::current_exe().context("failed to find this program's own file")?;
    let flags = std::env::args_os().skip(2).take_while(|word| word != "--");
    let writer = [program.into_os_string(), "watch".into()].into_iter().chain(flags).collect();
    let plan = Plan { node: arguments.node.clone(), writer, writer_ends: arguments.watch.ends() };
    supervise::run(&plan).map(ExitCode::from)
}
