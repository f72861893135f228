//! `spyhop watch`

use crate::watch::{self, From, Settings};
use alloy_primitives::Address;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `spyhop watch`.
#[derive(Args, Debug)]
pub struct Watch {
    /// geth's IPC socket.
    #[arg(long, value_name = "PATH", env = "SPYHOP_IPC")]
    ipc: PathBuf,
    /// The data directory: a local file system or a named volume.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// First block: a number, -N for N blocks below the head, or `earliest`; rounded down to a multiple of 100.
    #[arg(long, value_name = "BLOCK", env = "SPYHOP_FROM", default_value = "-50400", value_parser = parse_from, allow_hyphen_values = true)]
    from: From,
    /// Drop sealed ranges older than this many days.
    #[arg(long, value_name = "DAYS", env = "SPYHOP_KEEP")]
    keep: Option<u64>,
    /// Catch up with the head, seal what is final, publish, and exit.
    #[arg(long, env = "SPYHOP_ONCE")]
    once: bool,
    /// How deep a block counts as final on a chain that never names a finalized block.
    #[arg(long, value_name = "BLOCKS", env = "SPYHOP_FINALITY_DEPTH", default_value_t = 1024)]
    finality_depth: u64,
    /// The chain's wrapped ether contract [default: the known one of mainnet and Sepolia].
    #[arg(long, value_name = "ADDRESS", env = "SPYHOP_WETH")]
    weth: Option<Address>,
    /// Name the files absolutely in the published views, below this directory, as their readers see it.
    #[arg(long, value_name = "DIR", env = "SPYHOP_PUBLISHED_PATH")]
    published_path: Option<PathBuf>,
    /// Memory the writer may have; where it needs more it dies, and geth beside it does not.
    #[arg(long, value_name = "MB", env = "SPYHOP_MEMORY_MAX", default_value_t = 2048)]
    memory_max: u64,
}

/// Runs the command.
pub fn run(arguments: &Watch) -> Result<()> {
    watch::run(Settings {
        ipc: arguments.ipc.clone(),
        data: arguments.data.clone(),
        from: arguments.from,
        keep_days: arguments.keep,
        once: arguments.once,
        finality_depth: arguments.finality_depth,
        weth: arguments.weth,
        published_path: arguments.published_path.clone(),
        memory_bytes_max: arguments.memory_max << 20,
    })
}

fn parse_from(text: &str) -> Result<From, String> {
    let number = |digits: &str| digits.parse::<u64>().map_err(|_| "expected N, -N or `earliest`".to_owned());
    match text.strip_prefix('-') {
        _ if text == "earliest" => Ok(From::Earliest),
        Some(digits) => number(digits).map(From::BelowHead),
        None => number(text).map(From::Block),
    }
}
