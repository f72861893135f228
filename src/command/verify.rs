//! `spyhop verify`

use super::print;
use crate::error::Failed;
use crate::geth::check_socket;
use crate::store::Store;
use crate::text::shown;
use crate::verify::{self, Fault, Report, Request};
use crate::watch;
use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::sync::Arc;

/// Arguments of `spyhop verify`.
#[derive(Args, Debug)]
pub(super) struct Verify {
    /// The data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_DATA")]
    data: PathBuf,
    /// First block [default: the first that is stored].
    #[arg(long, value_name = "BLOCK")]
    from: Option<u64>,
    /// Last block [default: the last that is stored].
    #[arg(long, value_name = "BLOCK")]
    to: Option<u64>,
    /// Also recompute the rows: rebuild every block from them, prove it, and compare every column
    /// of every table.
    #[arg(long)]
    deep: bool,
    /// With --deep, recover senders in batches like `watch` and `backfill`, not with libsecp256k1
    /// alone.
    #[arg(long, requires = "deep")]
    fast: bool,
    /// Rebuild faulty ranges from the node, publish, and move the old ones to quarantine.
    #[arg(long, requires = "ipc")]
    repair: bool,
    /// geth's IPC socket, to compare what is stored with the node's hashes.
    #[arg(long, value_name = "PATH", env = "SPYHOP_IPC")]
    ipc: Option<PathBuf>,
    /// With --repair, also publish `spyhop-absolute.duckdb`, whose views use this absolute path of
    /// the data directory.
    #[arg(long, value_name = "DIR", env = "SPYHOP_PUBLISHED_PATH")]
    published_path: Option<PathBuf>,
}

/// Runs the command: exit code 0 if there is no fault, or none is left after a repair.
pub(super) fn run(arguments: &Verify) -> Result<()> {
    if let Some(ipc) = &arguments.ipc {
        check_socket(ipc)?;
    }
    watch::go_behind();
    // A repair needs the volume to itself, and must repair exactly what was verified.
    let store = if arguments.repair { Some(Arc::new(Store::open(&arguments.data)?)) } else { None };
    let mut report = check(arguments)?;
    if let Some(store) = store
        && !report.faulty.is_empty()
    {
        let ipc = arguments.ipc.clone().context("--repair needs --ipc")?;
        let quarantine =
            watch::repair(ipc, store, arguments.published_path.clone(), report.faulty)?;
        print_line(&format!("rebuilt; the old ones are in {}", quarantine.display()))?;
        report = check(arguments)?;
    }
    let what = if arguments.deep { "rows recomputed" } else { "files, counts and links checked" };
    print_line(&format!(
        "{} blocks in {} ranges and {} tail files, {what}: {} faults",
        report.blocks, report.ranges, report.tail, report.faults
    ))?;
    if arguments.deep && report.not_recomputed > 0 {
        let checked =
            if report.lacking.contains("blocks") { "files" } else { "headers, links and files" };
        let tables = report.lacking.into_iter().collect::<Vec<_>>().join(", ");
        print_line(&format!(
            "{} of the blocks lack {tables}: only their {checked} could be checked",
            report.not_recomputed
        ))?;
    }
    for (table, blocks) in &report.not_combined {
        print_line(&format!(
            "{blocks} of the blocks do not determine all of `{table}`: only its files could be \
            checked"
        ))?;
    }
    for (first, last) in &report.missing {
        print_line(&format!("not stored: blocks {first} to {last}"))?;
    }
    match report.lost_reorgs {
        0 => {}
        count => print_line(&format!(
            "not stored: {count} records of reorganisations, which were damaged or deleted"
        ))?,
    }
    match report.faults {
        0 => Ok(()),
        count => {
            let hint = match arguments.repair {
                true => {
                    "what the node could not provide stays as it is; try again when it can, or \
                    `spyhop rewind`"
                }
                false => {
                    "stop the writer, and add `--repair --ipc PATH` to rebuild what is faulty \
                    from the node"
                }
            };
            Err(Failed::new(format!("{count} faults in `{}`", arguments.data.display()), hint)
                .into())
        }
    }
}

fn check(arguments: &Verify) -> Result<Report> {
    let Verify { data, from, to, deep, fast, ipc, .. } = arguments;
    let settings = Request {
        data: data.clone(),
        from: *from,
        to: *to,
        deep: *deep,
        fast: *fast,
        ipc: ipc.clone(),
    };
    let style = ProgressStyle::with_template(
        "spyhop [{bar:40}] {human_pos}/{human_len} blocks  {per_sec}  ETA {eta}",
    );
    // It is drawn on a terminal only.
    let bar = ProgressBar::new(0)
        .with_style(style.context("the template is constant")?.progress_chars("=> "));
    let mut printed = Ok(());
    let mut report_fault = |fault: &Fault| {
        let line = bar.suspend(|| print_line(&fault.to_string()));
        if printed.is_ok() {
            printed = line;
        }
    };
    let report = verify::check(&settings, &bar, &mut report_fault);
    bar.finish_and_clear();
    printed.and(report)
}

/// Prints a line.
fn print_line(line: &str) -> Result<()> {
    print(&format!("{}\n", shown(line)))
}
