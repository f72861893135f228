//! `spyhop verify`: checks whether what is stored is the chain.
//!
//! There are two depths. Files: each matches its BLAKE3, its manifest is correct, blocks link
//! inside and between ranges up to the node's finalized block, and there are as many rows as the
//! blocks say. Rows: every block is rebuilt from them as RLP, decoded and proved as if it came from
//! the node, and everything derived from it is compared with what is stored, cell by cell; tables
//! combined over many blocks are recombined. Tables that come only from the node's state (`traces`,
//! `balances`, internal transfers) can only be compared with their manifest. Nothing is requested
//! from the node but hashes and the chain's configuration.
//!
//! A writer may be running: merged ranges are looked up in their successors, and tail files that
//! were sealed meanwhile are skipped.

mod block;
mod cell;
mod combined;
mod cursor;
mod ether;
mod fault;
mod files;
mod links;
mod node;
mod pass;
mod range;
mod rebuild;
mod small;
mod tail;

pub use fault::Fault;
pub use rebuild::{combined, recomputed};

use crate::error::Refused;
use crate::geth::{Client, Limits};
use crate::prove::BlobSchedule;
use crate::rows::{Issuance, Selection};
use crate::store::{self, Chain, Scratch};
use crate::watch::{Faulty, contiguity};
use anyhow::{Context, Result};
use block::Rules;
use indicatif::ProgressBar;
use pass::Pass;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What to verify and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The volume.
    pub data: PathBuf,
    /// The first block, if not everything stored is to be verified.
    pub from: Option<u64>,
    /// The last block, likewise.
    pub to: Option<u64>,
    /// Whether the rows are recomputed, too.
    pub deep: bool,
    /// Whether senders are recovered in batches for that, and not by libsecp256k1 alone.
    pub fast: bool,
    /// geth's socket, if there is a node to compare with.
    pub ipc: Option<PathBuf>,
}

/// What was verified, with the outcome.
#[derive(Debug, Default)]
pub struct Report {
    /// Blocks in sealed ranges and in the tail.
    pub blocks: u64,
    /// Sealed ranges.
    pub ranges: usize,
    /// Blocks of those, in the tail.
    pub tail: usize,
    /// Blocks whose rows could not be recomputed because tables are not stored.
    pub not_recomputed: u64,
    /// The tables that they lack.
    pub lacking: BTreeSet<&'static str>,
    /// Tables that could not be recombined everywhere, with the number of blocks in the ranges
    /// affected.
    pub not_combined: BTreeMap<&'static str, u64>,
    /// First and last block of each gap in what is stored.
    pub missing: Vec<(u64, u64)>,
    /// Lost reorganisation records.
    pub lost_reorgs: usize,
    /// How many faults were found.
    pub faults: u64,
    /// Where they are.
    pub faulty: Faulty,
}

/// Verifies what is stored, and reports each fault as it is found.
///
/// # Errors
/// If there is nothing to verify, or the node cannot be queried. Unreadable files are faults, not
/// errors.
pub fn check(
    settings: &Request,
    bar: &ProgressBar,
    on_fault: &mut (dyn FnMut(&Fault) + Send),
) -> Result<Report> {
    let root = &settings.data;
    let (from, to) = settings.blocks();
    if from > to {
        return Err(Refused::new(
            format!("there are no blocks {from} to {to}"),
            "give a `--to` that is not below `--from`",
        )
        .into());
    }
    let chain =
        store::read_chain(root)?.with_context(|| format!("no data in `{}` yet", root.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = settings.ipc.as_ref().map(|ipc| Client::new(ipc, Limits::default()));
    let from_node = match &client {
        Some(client) => runtime.block_on(node::rules(client, chain.identity))?,
        None => None,
    };
    let client = client.filter(|_| from_node.is_some());
    let rules = if settings.deep { Some(rules(&chain, from_node, settings.fast)?) } else { None };
    let scratch = Scratch::new(root);
    let mut pass = Pass {
        settings,
        chain,
        rules,
        scratch,
        broken: None,
        bar,
        on_fault,
        report: Report::default(),
    };
    let pool = rayon::ThreadPoolBuilder::new().build()?;
    let current = pool.install(|| pass.current())?;
    if let Some(client) = &client {
        for (range, fault) in runtime.block_on(node::ranges(client, &current.ranges))? {
            pass.add_faults(vec![fault]);
            pass.report.faulty.add_range(range);
        }
        let fault = runtime.block_on(node::tail(client, &current.tail))?;
        pass.add_faults(fault.into_iter().collect());
    }
    for (below, above) in &current.apart {
        let faulty = &mut pass.report.faulty;
        if ![below, above].iter().any(|range| faulty.has_range(range)) {
            faulty.add_range(below);
            faulty.add_range(above);
        }
    }
    pass.count(&current, contiguity::holes(root)?);
    pass.report.lost_reorgs = store::lost_reorgs(root)?;
    let is_all = settings.from.is_none() && settings.to.is_none();
    for (fault, path) in if is_all { small::check(root)? } else { Vec::new() } {
        pass.add_faults(vec![fault]);
        pass.report.faulty.small.extend(path);
        pass.report.faulty.is_unpublished = true;
    }
    match pass.broken {
        Some(error) => Err(error.context("failed to recombine tables")),
        None => Ok(pass.report),
    }
}

/// What the rows depend on besides the blocks.
fn rules(
    chain: &Chain,
    from_node: Option<(BlobSchedule, Issuance)>,
    is_fast: bool,
) -> Result<Rules> {
    let (schedule, issuance) =
        chain.blob_schedule.clone().zip(chain.issuance).or(from_node).ok_or_else(|| {
            Refused::new(
                "this chain's blob schedule and issuance are not recorded: the data was written \
            before they were",
                "give --ipc, or run `spyhop watch` once",
            )
        })?;
    Ok(Rules { schedule, issuance, weth: chain.weth, is_fast })
}

impl Report {
    /// Counts blocks that could not be recomputed.
    fn lacks(&mut self, tables: Selection, blocks: u64) {
        self.lacking.extend(tables.tables().map(|table| table.name));
        self.not_recomputed += blocks;
    }
}

impl Request {
    /// The first and the last block to verify.
    fn blocks(&self) -> (u64, u64) {
        (self.from.unwrap_or(0), self.to.unwrap_or(u64::MAX))
    }
}
