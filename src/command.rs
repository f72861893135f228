//! The commands, one file each: arguments as typed, and what they do.

pub mod backfill;
pub mod health;
pub mod rewind;
pub mod run;
pub mod schema;
pub mod sql;
pub mod status;
pub mod verify;
pub mod watch;

use crate::error::{Failed, Refused};
use crate::log;
use crate::plan::Order;
use crate::rows::{CHAIN_TABLES, Selection};
use crate::text;
use crate::watch::{From, Settings, Task, Traces};
use alloy_primitives::Address;
use anyhow::{Context, Result};
use clap::builder::Resettable;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use rustix::io::Errno;
use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// Whale analysis beside your own geth: proved blocks, in a DuckDB file.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Command {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// Catch up with the node, prove and store every block, and follow the head.
    Watch(watch::Watch),
    /// Build history in the foreground, at full speed, while no `watch` runs.
    Backfill(backfill::Backfill),
    /// Run geth and, beside it, what `watch` does: for a container that holds both.
    Run(run::Run),
    /// Ask questions in SQL.
    Sql(sql::Sql),
    /// Say how far the data are, and whether all is well.
    Status(status::Status),
    /// Say in one line whether geth answers and the data follow it: for a container's health check.
    Health(health::Health),
    /// Prove what is stored: that it is the chain, and complete.
    Verify(verify::Verify),
    /// Move everything above a block to quarantine.
    Rewind(rewind::Rewind),
    /// Print every table and column, with type and comment.
    Schema(schema::Schema),
}

impl Command {
    /// The command line and the environment, where a variable that is set to nothing, as files of Compose leave it, is not set. Ends
    /// the process where they make no command.
    pub fn read() -> Self {
        let is_empty = |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        let unset = |arg: Arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg };
        let command = Self::command().mut_subcommands(|command| command.mut_args(unset));
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Runs the command; errors aside, 0 is not the only exit code.
    pub fn run(&self) -> Result<ExitCode> {
        let is_run = matches!(self.which, Which::Run(_));
        if is_run {
            log::put_in_front("spyhop | ");
        }
        log_to_stderr(!is_run && std::io::stderr().is_terminal())?;
        match &self.which {
            Which::Run(run) => return run::run(run),
            Which::Health(health) => return health::run(health),
            Which::Watch(watch) => watch::run(watch),
            Which::Backfill(backfill) => backfill::run(backfill),
            Which::Sql(sql) => sql::run(sql),
            Which::Status(status) => status::run(status),
            Which::Verify(verify) => verify::run(verify),
            Which::Rewind(rewind) => rewind::run(rewind),
            Which::Schema(schema) => schema::run(schema),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What `watch` and `backfill` read, what they make of it, and where it goes.
#[derive(Args, Debug)]
pub struct Reading {
    /// geth's IPC socket.
    #[arg(long, value_name = "PATH", env = "SPYHOP_IPC", overrides_with = "ipc")]
    ipc: PathBuf,
    /// The data directory: a local file system or a named volume.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// geth's ancient store [default: below the data directory that geth names].
    #[arg(long, value_name = "DIR", env = "SPYHOP_ANCIENT")]
    ancient: Option<PathBuf>,
    /// Era files, which hold what geth has pruned [default: beside its ancient store].
    #[arg(long, value_name = "DIR", env = "SPYHOP_ERA")]
    era: Option<PathBuf>,
    /// The tables to store, with commas between them [default: all but traces]; `+traces` adds to the default.
    #[arg(long, value_name = "LIST", env = "SPYHOP_TABLES", value_parser = parse_tables)]
    tables: Option<Selection>,
    /// Which blocks geth is asked to trace: those at the head, all whose state it serves, or none.
    #[arg(long, env = "SPYHOP_TRACES", default_value = "head")]
    traces: TracesName,
    /// Ranges to build at the same time [default: one for each core, as far as the memory goes].
    #[arg(long, value_name = "N", env = "SPYHOP_WORKERS", value_parser = clap::value_parser!(u16).range(1..=512))]
    workers: Option<u16>,
    /// How deep a block counts as final on a chain that never names a finalized block.
    #[arg(long, value_name = "BLOCKS", env = "SPYHOP_FINALITY_DEPTH", default_value_t = 1024)]
    finality_depth: u64,
    /// The chain's wrapped ether contract [default: the known one of mainnet and Sepolia].
    #[arg(long, value_name = "ADDRESS", env = "SPYHOP_WETH")]
    weth: Option<Address>,
    /// Publish `spyhop-absolute.duckdb` too, with this absolute path of the data directory in its views.
    #[arg(long, value_name = "DIR", env = "SPYHOP_PUBLISHED_PATH")]
    published_path: Option<PathBuf>,
    /// Names of addresses: a CSV file with address, name and category; it is read again when it changes.
    #[arg(long, value_name = "FILE", env = "SPYHOP_LABELS")]
    labels: Option<PathBuf>,
    /// A directory of ABI files, NAME.json each: one view for each of their events; they are read again when they change.
    #[arg(long, value_name = "DIR", env = "SPYHOP_ABI")]
    abi: Option<PathBuf>,
    /// Memory the writer may have; where it needs more it dies, and geth beside it does not.
    #[arg(long, value_name = "MIB", env = "SPYHOP_MEMORY_MAX", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(16..))]
    memory_max: u64,
}

/// Memory that a worker may come to need, in MiB, and what everything else does.
const WORKER_MIB: u64 = 256;
const REST_MIB: u64 = 512;

impl Reading {
    /// One worker for each core, as far as the memory goes.
    fn workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most = (self.memory_max.saturating_sub(REST_MIB) / WORKER_MIB).max(1) as usize;
        self.workers.map_or(cores.min(most), usize::from)
    }

    /// Settings that follow the head from the first block on, for the command to change.
    fn settings(&self) -> Settings {
        Settings {
            task: Task::Follow { once: false },
            ipc: self.ipc.clone(),
            data: self.data.clone(),
            from: From::Block(0),
            keep_days: None,
            finality_depth: self.finality_depth,
            weth: self.weth,
            published_path: self.published_path.clone(),
            labels: self.labels.clone(),
            abi: self.abi.clone(),
            tables: self.tables.unwrap_or_default(),
            traces: self.traces.into(),
            order: Order::default(),
            workers: self.workers(),
            memory_bytes_max: self.memory_max.saturating_mul(1 << 20),
            ancient: self.ancient.clone(),
            era: self.era.clone(),
        }
    }
}

/// Which ranges are built first.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OrderName {
    Newest,
    Oldest,
}

impl std::convert::From<OrderName> for Order {
    fn from(name: OrderName) -> Self {
        match name {
            OrderName::Newest => Self::NewestFirst,
            OrderName::Oldest => Self::OldestFirst,
        }
    }
}

/// Which blocks are traced.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TracesName {
    Head,
    All,
    Off,
}

impl std::convert::From<TracesName> for Traces {
    fn from(name: TracesName) -> Self {
        match name {
            TracesName::Head => Self::Head,
            TracesName::All => Self::All,
            TracesName::Off => Self::Off,
        }
    }
}

/// No chain has a block of a larger number, and a volume no room for its own.
const BLOCK_MAX: u64 = 1 << 48;

fn parse_block(text: &str) -> Result<u64, String> {
    let number = text.parse().map_err(|_| "expected the number of a block".to_owned())?;
    if number > BLOCK_MAX { Err("no chain has so many blocks".to_owned()) } else { Ok(number) }
}

fn parse_from(text: &str) -> Result<From, String> {
    let number = |digits: &str| match parse_block(digits) {
        Err(_) if digits.parse::<u64>().is_err() => Err("expected N, -N or `earliest`".to_owned()),
        number => number,
    };
    match text.strip_prefix('-') {
        _ if text == "earliest" => Ok(From::Earliest),
        Some(digits) => number(digits).map(From::BelowHead),
        None => number(text).map(From::Block),
    }
}

fn parse_tables(text: &str) -> Result<Selection, String> {
    let names: Vec<_> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let adds = names.iter().any(|name| name.starts_with('+'));
    let base = if adds { Selection::default() } else { Selection::of_known([]) };
    let selection = Selection::parse(names.iter().map(|name| name.trim_start_matches('+'))).map_err(|name| {
        let known = CHAIN_TABLES.map(|table| table.name).join(", ");
        format!("there is no table `{name}`; there are {known}")
    })?;
    if selection.is_empty() { Err("no table is named".to_owned()) } else { Ok(selection.with(base)) }
}

/// Logs go to standard error; `SPYHOP_LOG` chooses which, as `RUST_LOG` does elsewhere.
fn log_to_stderr(ansi: bool) -> Result<()> {
    let wanted = std::env::var("SPYHOP_LOG").ok().filter(|wanted| !wanted.is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or("info")).map_err(|error| {
        let hint = "a level (error, warn, info, debug, trace), or as of `RUST_LOG`: spyhop::watch=debug,info";
        Refused::new(format!("SPYHOP_LOG is not understood: {error}"), hint)
    })?;
    // A second call finds one set: the first stays.
    let _ = tracing_subscriber::fmt()
        .compact()
        .fmt_fields(debug_fn(write_field).delimited(" "))
        .with_target(false)
        .with_env_filter(filter)
        .with_writer(|| log::Own)
        .with_ansi(ansi)
        .log_internal_errors(false)
        .try_init();
    Ok(())
}

/// A field as `compact` writes it, but whatever is in it stays on the line.
fn write_field(out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = text::shown(&value);
    match field.name() {
        "message" => out.write_str(&value),
        name if out.has_ansi_escapes() => write!(out, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
        name => write!(out, "{name}={value}"),
    }
}

/// Prints lines on standard output. Where nobody reads them any more, the exit code is the answer all the same.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("failed to print"),
    }
}

/// Prints an error with its causes, once, and says the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    log::say(&format!("error: {}", text::lines(&error.to_string())));
    for cause in error.chain().skip(1) {
        log::say(&format!("because: {}", text::lines(&cause.to_string())));
    }
    let refused = error.chain().find_map(|cause| cause.downcast_ref::<Refused>());
    match refused {
        Some(refused) => {
            log::say(&format!("hint: {}", text::lines(refused.hint())));
            ExitCode::from(2)
        }
        None => {
            let failed = error.chain().find_map(|cause| cause.downcast_ref::<Failed>());
            if let Some(hint) = failed.map(Failed::hint).or_else(|| remedy(error)) {
                log::say(&format!("hint: {}", text::lines(hint)));
            }
            ExitCode::from(1)
        }
    }
}

/// What to do about an error of the system's.
fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    let of_io = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<std::io::Error>()?.raw_os_error();
    let of_rustix = |cause: &(dyn std::error::Error + 'static)| Some(cause.downcast_ref::<Errno>()?.raw_os_error());
    let errno = error.chain().find_map(|cause| of_io(cause).or_else(|| of_rustix(cause)));
    // DuckDB and Parquet say it in words only.
    let text = format!("{error:#}");
    let says = |words: &str| text.contains(words);
    let is = |numbers: &[i32]| errno.is_some_and(|errno| numbers.contains(&errno));
    if is(&[libc::ENOSPC, libc::EDQUOT]) || says("No space left on device") || says("Disk quota exceeded") {
        Some("free some space, and start it again: what was committed is there")
    } else if is(&[libc::EMFILE, libc::ENFILE]) || says("Too many open files") {
        Some("allow more open files: `ulimit -n`, or `--ulimit nofile=1048576` of the container engine")
    } else if is(&[libc::ENOMEM]) || says("Out of Memory Error") || says("Cannot allocate memory") {
        Some("give it more memory: --memory-max, or the limit of the container")
    } else if is(&[libc::EFBIG]) || says("File too large") {
        Some("allow larger files: `ulimit -f unlimited`")
    } else if is(&[libc::EIO]) || says("Input/output error") {
        Some("the disk fails, or the way to it: see the kernel's log; `spyhop verify` tells what is damaged")
    } else if is(&[libc::EROFS]) || says("Read-only file system") {
        Some("mount it writable; one that turned read-only by itself has errors: see the kernel's log")
    } else if is(&[libc::EACCES, libc::EPERM]) || says("Permission denied") {
        Some("run it as the user to whom the data directory belongs, as geth's own or as root")
    } else {
        None
    }
}
