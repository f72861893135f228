//! The commands, one file each: their arguments, and how they run.

mod backfill;
mod export;
mod health;
mod lake;
mod metrics;
mod query_worker;
mod rewind;
mod run;
mod schema;
mod serve;
mod sql;
mod status;
mod verify;
mod watch;

use crate::error::{Failed, Refused};
use crate::log;
use crate::plan::Order;
use crate::recover;
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

/// Whale analysis next to your own geth: proved blocks in Parquet, queried with DuckDB.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Command {
    #[command(subcommand)]
    which: Which,
    /// What recovers senders, to measure or to rule it out.
    #[arg(long, global = true, hide = true, value_name = "WHAT", env = "SPYHOP_RECOVER")]
    recover: Option<Recover>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Recover {
    /// The fastest that the processor has, checked.
    Batch,
    /// libsecp256k1 alone.
    Libsecp256k1,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// Catch up with the node, prove and store every block, and follow the head.
    Watch(watch::Watch),
    /// Build history without following the head, while no `watch` runs.
    Backfill(backfill::Backfill),
    /// Run geth, and `watch` next to it, as the main process of a container; with `SPYHOP_HTTP`,
    /// `serve` too.
    Run(run::Run),
    /// Query the data in SQL.
    Sql(sql::Sql),
    /// Serve a page and an API over HTTP, from the published file.
    Serve(serve::Serve),
    /// Show progress, lag, and whether anything is wrong.
    Status(status::Status),
    /// Report in one line whether geth answers and the writer keeps up: for a container's health
    /// check.
    Health(health::Health),
    /// Print Prometheus metrics, for node_exporter's textfile collector.
    Metrics(metrics::Metrics),
    /// Write plain files of the finalized blocks: Parquet, CSV or JSON lines.
    Export(export::Export),
    /// Check that what is stored is the chain, and complete.
    Verify(verify::Verify),
    /// Keep Delta tables of the sealed ranges, for Spark, Trino, ClickHouse and other engines.
    Lake(lake::Lake),
    /// Move everything above a block to quarantine.
    Rewind(rewind::Rewind),
    /// Print every table and column, with its type and meaning.
    Schema(schema::Schema),
    /// Run one query in a sandbox, for `serve`.
    #[command(hide = true)]
    QueryWorker(query_worker::QueryWorker),
}

/// Runs the command given by the command line and the environment, and returns the exit code: 0
/// done or signalled, 1 failed, 2 wrong usage or setup.
pub fn run() -> ExitCode {
    log::report_panics();
    let code = Command::read().run().unwrap_or_else(|error| report(&error));
    log::finish();
    code
}

impl Command {
    /// Parses the command line and the environment; exits if they are invalid. A variable that is
    /// set to the empty string, as Compose files leave it, counts as unset.
    fn read() -> Self {
        let is_empty = |arg: &Arg| {
            arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
        };
        let unset = |arg: Arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg };
        let command =
            Self::command().mut_args(unset).mut_subcommands(|command| command.mut_args(unset));
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Runs the command and returns its exit code.
    fn run(&self) -> Result<ExitCode> {
        let is_run = matches!(self.which, Which::Run(_));
        if is_run {
            log::put_in_front("spyhop | ");
        }
        log_to_stderr(!is_run && std::io::stderr().is_terminal())?;
        if matches!(self.recover, Some(Recover::Libsecp256k1)) {
            recover::use_libsecp256k1_alone();
        }
        match &self.which {
            Which::Run(run) => return run::run(run),
            Which::Health(health) => return health::run(health),
            Which::Watch(watch) => watch::run(watch),
            Which::Backfill(backfill) => backfill::run(backfill),
            Which::Sql(sql) => sql::run(sql),
            Which::Serve(serve) => serve::run(serve),
            Which::Status(status) => status::run(status),
            Which::Metrics(metrics) => metrics::run(metrics),
            Which::Export(export) => export::run(export),
            Which::Verify(verify) => verify::run(verify),
            Which::Lake(lake) => lake::run(lake),
            Which::Rewind(rewind) => rewind::run(rewind),
            Which::Schema(schema) => schema::run(schema),
            Which::QueryWorker(worker) => query_worker::run(worker),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments that `watch` and `backfill` share.
#[derive(Args, Debug)]
struct IngestArguments {
    /// geth's IPC socket.
    #[arg(long, value_name = "PATH", env = "SPYHOP_IPC", overrides_with = "ipc")]
    ipc: PathBuf,
    /// The data directory, on a local file system or a named volume.
    ///
    /// DuckDB must accept its path as a name: one that contains `,`, `?`, `\`, invalid UTF-8, or a
    /// part like `first=7` is refused.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// geth's freezer, its `ancient` directory [default: below the data directory that geth
    /// reports].
    ///
    /// If there is none, all blocks come over the socket.
    #[arg(long, value_name = "DIR", env = "SPYHOP_ANCIENT")]
    ancient: Option<PathBuf>,
    /// Directory of era files, for history that geth has pruned [default: `era` next to the
    /// freezer's tables].
    ///
    /// The default is where `geth download-era` puts them. It is searched once a minute.
    #[arg(long, value_name = "DIR", env = "SPYHOP_ERA")]
    era: Option<PathBuf>,
    /// Tables to store, separated by commas [default: all but traces]; `+traces` adds to the
    /// default.
    ///
    /// Other tables are not stored, and `coverage` says so. With blocks, logs, withdrawals, uncles
    /// and token_transfers only, no senders are recovered, which is nearly all of the work. Tables
    /// asked for later are added to the ranges that lack them.
    #[arg(long, value_name = "LIST", env = "SPYHOP_TABLES", value_parser = parse_tables)]
    tables: Option<Selection>,
    /// Which blocks geth is asked to trace.
    #[arg(long, env = "SPYHOP_TRACES", default_value = "head")]
    traces: TracesName,
    /// Ranges to build at once [default: one per core, as far as memory allows].
    ///
    /// Each takes about 250 MB of memory.
    #[arg(
        long,
        value_name = "N",
        env = "SPYHOP_WORKERS",
        value_parser = clap::value_parser!(u16).range(1..=512)
    )]
    workers: Option<u16>,
    /// Depth at which a block counts as final, on a chain that has never reported a finalized
    /// block.
    #[arg(long, value_name = "BLOCKS", env = "SPYHOP_FINALITY_DEPTH", default_value_t = 1024)]
    finality_depth: u64,
    /// The chain's wrapped ether contract [default: that of mainnet or Sepolia].
    #[arg(long, value_name = "ADDRESS", env = "SPYHOP_WETH")]
    weth: Option<Address>,
    /// Also publish `spyhop-absolute.duckdb`, whose views use this absolute path of the data
    /// directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_PUBLISHED_PATH")]
    published_path: Option<PathBuf>,
    /// Your address labels: a CSV file with address, name and category, read again when it changes.
    ///
    /// One address per line: a quoted field ends with its line. Lines that cannot be read are
    /// logged by number and skipped.
    #[arg(long, value_name = "FILE", env = "SPYHOP_LABELS")]
    labels: Option<PathBuf>,
    /// Directory of ABI files, NAME.json: adds a view for each of their events; read again when
    /// they change.
    #[arg(long, value_name = "DIR", env = "SPYHOP_ABI")]
    abi: Option<PathBuf>,
    /// Memory that the writer may use; if it needs more, it dies and geth does not.
    #[arg(
        long,
        value_name = "MIB",
        env = "SPYHOP_MEMORY_MAX",
        default_value_t = 2048,
        value_parser = clap::value_parser!(u64).range(16..)
    )]
    memory_max: u64,
}

/// Memory that a worker can need, in MiB; also that of everything else.
const WORKER_MIB: u64 = 256;
const REST_MIB: u64 = 512;

impl IngestArguments {
    /// One worker per core, as far as memory allows.
    fn workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most = (self.memory_max.saturating_sub(REST_MIB) / WORKER_MIB).max(1) as usize;
        self.workers.map_or(cores.min(most), usize::from)
    }

    /// Settings that follow the head from block 0, for the command to adjust.
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
            freezer: self.ancient.clone(),
            era: self.era.clone(),
        }
    }
}

/// Which ranges are built first.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OrderName {
    /// `watch` follows the head at once, and history grows downwards.
    Newest,
    /// What is published grows upwards, and `watch` follows the head once it gets there.
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
    /// Blocks at the head, as they arrive.
    Head,
    /// All blocks whose state geth has: on an archive node the whole history, over the socket.
    All,
    /// None.
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

/// No chain has a block with a larger number.
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
    let selection = Selection::parse(names.iter().map(|name| name.trim_start_matches('+')))
        .map_err(|name| {
            let known = CHAIN_TABLES.map(|table| table.name).join(", ");
            format!("there is no table `{name}`; the tables are {known}")
        })?;
    if selection.is_empty() {
        Err("the list of tables is empty".to_owned())
    } else {
        Ok(selection.with(base))
    }
}

/// Logs to standard error; `SPYHOP_LOG` filters, as `RUST_LOG` does in other programs.
fn log_to_stderr(ansi: bool) -> Result<()> {
    let wanted = std::env::var("SPYHOP_LOG").ok().filter(|wanted| !wanted.is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or("info")).map_err(|error| {
        let hint = "use a level (error, warn, info, debug, trace), or a filter as in RUST_LOG: \
            spyhop::watch=debug,info";
        Refused::new(format!("SPYHOP_LOG is not a valid filter: {error}"), hint)
    })?;
    // If one is already set, keep it.
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

/// Formats a field as `compact` does, escaped so that it stays on its line.
fn write_field(out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = text::shown(&value);
    match field.name() {
        "message" => out.write_str(&value),
        name if out.has_ansi_escapes() => write!(out, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
        name => write!(out, "{name}={value}"),
    }
}

/// Prints to standard output. A closed pipe is not an error: the exit code still counts.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("failed to print"),
    }
}

/// Prints an error with its causes and hint, and returns the exit code.
fn report(error: &anyhow::Error) -> ExitCode {
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

/// The remedy for an error of the operating system.
fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    let of_io = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>()?.raw_os_error()
    };
    let of_rustix = |cause: &(dyn std::error::Error + 'static)| {
        Some(cause.downcast_ref::<Errno>()?.raw_os_error())
    };
    let errno = error.chain().find_map(|cause| of_io(cause).or_else(|| of_rustix(cause)));
    // DuckDB and Parquet report it only as text.
    let text = format!("{error:#}");
    let says = |words: &str| text.contains(words);
    let is = |numbers: &[i32]| errno.is_some_and(|errno| numbers.contains(&errno));
    if is(&[libc::ENOSPC, libc::EDQUOT])
        || says("No space left on device")
        || says("Disk quota exceeded")
    {
        Some("free some space and start it again: what was committed is kept")
    } else if is(&[libc::EMFILE, libc::ENFILE]) || says("Too many open files") {
        Some(
            "allow more open files: `ulimit -n`, or the container engine's `--ulimit \
            nofile=1048576`",
        )
    } else if is(&[libc::ENOMEM]) || says("Out of Memory Error") || says("Cannot allocate memory") {
        Some("give it more memory: --memory-max, or the container's limit")
    } else if is(&[libc::EFBIG]) || says("File too large") {
        Some("allow larger files: `ulimit -f unlimited`")
    } else if is(&[libc::EIO]) || says("Input/output error") {
        Some(
            "the disk or the connection to it is failing: see the kernel's log; `spyhop verify` \
            reports what is damaged",
        )
    } else if is(&[libc::EROFS]) || says("Read-only file system") {
        Some(
            "mount it writable; a file system that turned read-only by itself has errors: see the \
            kernel's log",
        )
    } else if is(&[libc::EACCES, libc::EPERM]) || says("Permission denied") {
        Some("run it as the owner of the data directory, as geth's user or as root")
    } else {
        None
    }
}
