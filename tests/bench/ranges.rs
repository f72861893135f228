//! Writes sealed ranges of synthetic blocks into a volume, to measure what depends on the amount
//! stored: rows of the real schema, with hashes and addresses that are all different, in real files
//! with real manifests. None of it can be proved.
//!
//! A block has zero to two transactions. In each range, `balances` and `address_flows` have as many
//! addresses as requested, none of which occur in another range; `address_flows` also has those that
//! take part in the transactions, a few that occur everywhere. A new volume gets chain 1; an existing
//! one keeps its chain.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use alloy_primitives::{Address, B256, U256, keccak256};
use anyhow::{Result, ensure};
use clap::Parser;
use rayon::prelude::*;
use serde_json::json;
use spyhop::answers::{Labels, RankLimits, Ranking};
use spyhop::events::Events;
use spyhop::publish::{Contents, Directory, Publisher};
use spyhop::rows::coverage::Interval;
use spyhop::rows::{Kind, Part, Rows, Selection, Table};
use spyhop::stop::Stop;
use spyhop::store::{self, BlockLink, Chain, FORMAT, Identity, RangeWriter, Store};

/// The first timestamp, as for the chains of chain.rs.
const GENESIS_TIME: u64 = 1_750_000_000;
const DAY_S: u64 = 86_400;
/// Blocks, and rows of a table, generated at a time at most.
const CHUNK: u64 = 5_000;
const CHUNK_ROWS: u64 = 100_000;
/// Addresses that send in transactions, and as many others that receive.
const PARTIES: u64 = 500;
/// From here on, rows of `address_flows` are of these, two for each transaction.
const OF_PARTIES: u64 = 1 << 32;

#[derive(Parser)]
struct Arguments {
    /// The volume
    #[arg(long)]
    data: PathBuf,
    /// First block of the first range
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Ranges to write
    #[arg(long, default_value_t = 270)]
    ranges: u64,
    /// Blocks of a range
    #[arg(long, default_value_t = 100_000)]
    blocks: u64,
    /// Distance between the first blocks of consecutive ranges; above --blocks, gaps remain and
    /// nothing is merged
    #[arg(long)]
    every: Option<u64>,
    /// Addresses of each range
    #[arg(long, default_value_t = 1_000)]
    addresses: u64,
    /// Publish the volume too
    #[arg(long)]
    publish: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let Arguments { first, ranges, blocks, addresses, .. } = arguments;
    let every = arguments.every.unwrap_or(blocks);
    ensure!(blocks <= every && ranges > 0, "ranges overlap, or there are none");
    let store = Store::open(&arguments.data)?;
    let chain = match store.chain()? {
        Some(chain) => chain,
        None => new_chain(&store)?,
    };
    let started = Instant::now();
    (0..ranges).into_par_iter().try_for_each(|range| {
        let first = first + range * every;
        write(&store, chain.identity, Blocks { first, count: blocks, addresses })
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let middle = first + ranges / 2 * every + blocks / 2;
    // One with transactions.
    let middle = middle - middle % 3 + 2;
    let last = first + (ranges - 1) * every + blocks - 1;
    let published = if arguments.publish { Some(publish(&store, chain.identity)?) } else { None };
    println!(
        "{}",
        json!({
            "ranges": ranges, "blocks": ranges * blocks, "addresses": ranges * addresses,
            "seconds": seconds, "block": middle, "transaction": transaction_hash(middle, 0),
            "last": last, "last_timestamp": time_of(last),
            "publish_s": published.map(|(scratch, _)| scratch),
            "publish_again_s": published.map(|(_, again)| again),
        })
    );
    Ok(())
}

fn new_chain(store: &Store) -> Result<Chain> {
    let identity = Identity { chain_id: 1.into(), genesis_hash: block_hash(0) };
    let chain = Chain {
        format: FORMAT,
        identity,
        finalized_seen: true,
        blob_schedule: None,
        weth: None,
        issuance: None,
    };
    store.set_chain(&chain)?;
    Ok(chain)
}

/// The blocks of a range.
#[derive(Clone, Copy)]
struct Blocks {
    first: u64,
    count: u64,
    addresses: u64,
}

fn write(store: &Store, identity: Identity, blocks: Blocks) -> Result<()> {
    let tables = Selection::default();
    let end = blocks.first + blocks.count;
    let mut range = RangeWriter::create(store, identity, blocks.first, end - 1, tables)?;
    let step = (CHUNK_ROWS * blocks.count / blocks.addresses.max(1)).clamp(1, CHUNK);
    for first in (blocks.first..end).step_by(step as usize) {
        let chunk = first..end.min(first + step);
        let parts = tables
            .tables()
            .map(|table| {
                let mut rows = Rows::new(table);
                for number in chunk.clone() {
                    blocks
                        .rows_of(table, number)
                        .try_for_each(|index| push(&mut rows, table, number, index))?;
                }
                Ok(Part::Rows(rows.finish()))
            })
            .collect::<Result<Vec<_>>>()?;
        let links: Vec<_> = chunk.map(link).collect();
        range.push(parts, &links, &[])?;
    }
    range.finish()?.commit(store)?;
    Ok(())
}

impl Blocks {
    /// The rows of a table that belong to a block.
    fn rows_of(&self, table: &Table, number: u64) -> impl Iterator<Item = u64> {
        let parties = if table.name == "address_flows" { 2 * (number % 3) } else { 0 };
        self.own_rows_of(table, number).chain(OF_PARTIES..OF_PARTIES + parties)
    }

    fn own_rows_of(&self, table: &Table, number: u64) -> Range<u64> {
        let offset = number - self.first;
        let spread = |count: u64| offset * count / self.count..(offset + 1) * count / self.count;
        match table.name {
            "blocks" | "gas_blocks" => 0..1,
            "transactions" | "native_transfers" => 0..number % 3,
            "logs" | "token_transfers" => 0..u64::from(number % 3 == 2),
            "balances" | "address_flows" => spread(self.addresses),
            "gas_flows" => spread(self.addresses.div_ceil(10)),
            _ => 0..0,
        }
    }
}

/// Appends a row, with values chosen by the names and kinds of its columns.
fn push(rows: &mut Rows, table: &Table, number: u64, index: u64) -> Result<()> {
    let mut after_wide = false;
    for column in table.columns {
        // An amount's text column is written along with it.
        if std::mem::take(&mut after_wide) {
            continue;
        }
        match (column.kind, column.name) {
            (Kind::Integer, "number" | "block_number" | "first_block" | "last_block") => {
                rows.integer(number)?
            }
            (Kind::Integer, name) if name.ends_with("index") => rows.integer(index)?,
            (Kind::Integer, "count_in" | "count_out") => rows.integer(1)?,
            (Kind::Integer, _) => rows.integer(21_000)?,
            (Kind::Long, _) => rows.long(21_000),
            (Kind::Wide, _) => {
                rows.wide(U256::from(1_000_000_000_000_000 + 1_000 * number + index));
                after_wide = true;
            }
            (Kind::Percent, _) => rows.percent(1, 2),
            (Kind::Time, "day") => rows.time(time_of(number) / DAY_S * DAY_S),
            (Kind::Time, _) => rows.time(time_of(number)),
            (Kind::TextList, _) => rows.hex_list(None::<&[B256]>),
            (Kind::Text | Kind::Key, name) => push_text(rows, table, name, number, index),
        }
    }
    Ok(())
}

fn push_text(rows: &mut Rows, table: &Table, name: &str, number: u64, index: u64) {
    match name {
        "block_hash" => rows.hex(block_hash(number)),
        "hash" if table.name == "blocks" => rows.hex(block_hash(number)),
        "parent_hash" => rows.hex(link(number).parent_hash),
        "hash" | "transaction_hash" => rows.hex(transaction_hash(number, index)),
        "asset" => rows.text("ETH"),
        "role" => rows.text("sender"),
        "kind" => rows.text("transaction"),
        "standard" => rows.text("ERC-20"),
        "logs_bloom" => rows.hex([0; 256]),
        "address" if index >= OF_PARTIES => {
            let (transaction, side) = ((index - OF_PARTIES) / 2, index % 2);
            let side = if side == 0 { "from_address" } else { "to_address" };
            rows.hex(party(side, number, transaction));
        }
        "address" if matches!(table.name, "balances" | "address_flows" | "gas_flows") => {
            rows.hex(Address::from_word(hash_of("address", number, index)));
        }
        "miner" => rows.hex(Address::with_last_byte(1)),
        name if name.ends_with("address") => rows.hex(party(name, number, index)),
        name if name.ends_with("root")
            || name.ends_with("uncles")
            || name.ends_with("mix_hash") =>
        {
            rows.hex(B256::ZERO);
        }
        _ => rows.text(None),
    }
}

/// Who takes part in a transaction, by the name of the column.
fn party(column: &str, number: u64, index: u64) -> Address {
    Address::from_word(hash_of("party", (number + index) % PARTIES, column.len() as u64))
}

fn link(number: u64) -> BlockLink {
    let parent_hash = number.checked_sub(1).map_or(B256::ZERO, block_hash);
    BlockLink { number, hash: block_hash(number), parent_hash, timestamp: time_of(number) }
}

fn time_of(number: u64) -> u64 {
    GENESIS_TIME + 12 * number
}

fn block_hash(number: u64) -> B256 {
    hash_of("block", number, 0)
}

fn transaction_hash(number: u64, index: u64) -> B256 {
    hash_of("transaction", number, index)
}

fn hash_of(what: &str, number: u64, index: u64) -> B256 {
    keccak256([what.as_bytes(), &number.to_be_bytes(), &index.to_be_bytes()].concat())
}

/// Publishes everything stored. Returns the seconds it takes from scratch, and incrementally as
/// after every block.
fn publish(store: &Store, identity: Identity) -> Result<(f64, f64)> {
    let ranges = store::read_ranges(store.root())?;
    let held: Vec<_> = ranges
        .iter()
        .map(|range| Directory {
            path: range.path.clone(),
            tables: range.tables(),
            older: range.manifest.older(),
            first: range.first,
            last: range.last,
            last_timestamp: range.manifest.last_timestamp,
            fingerprint: Some(range.manifest.fingerprint()),
        })
        .collect();
    let mut coverage = Vec::<Interval>::new();
    for table in Selection::default().tables() {
        for range in &ranges {
            match coverage.last_mut() {
                Some(below) if below.table == table.name && below.last + 1 == range.first => {
                    below.last = range.last
                }
                _ => {
                    let (first, last) = (range.first, range.last);
                    coverage.push(Interval { first, last, ..Interval::held(table.name) });
                }
            }
        }
    }
    let labels = Labels::open(identity.chain_id, None, None)?;
    let events = Events::open(None)?;
    let tables = Selection::default();
    let ranking = Ranking::make(store, &ranges, RankLimits::default(), &Stop::default())?;
    let state = Contents {
        ranges: &held,
        tail: &[],
        tables,
        coverage: &coverage,
        reorgs: &[],
        labels: &labels,
        events: &events,
        ranking: Some(&ranking),
    };
    let mut publisher = Publisher::new(store, None)?;
    let mut timed = || -> Result<f64> {
        let started = Instant::now();
        publisher.publish(store, &state)?;
        Ok(started.elapsed().as_secs_f64())
    };
    Ok((timed()?, timed()?))
}
