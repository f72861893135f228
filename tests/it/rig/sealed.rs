//! Sealed ranges of made-up blocks, with values of every shape a column can have: for readers of
//! ranges, which do not prove anything.

use alloy_primitives::{B256, U256, keccak256};
use spyhop::rows::{Gap, Kind, Part, Rows, Selection, Table};
use spyhop::stop::Stop;
use spyhop::store::{
    BlockLink, Chain, FORMAT, Identity, RangeWriter, Store, next_merge, read_ranges,
};
use std::path::Path;

/// Time of block 0: noon of 15 June 2025.
const GENESIS_TIME: u64 = 1_749_988_800;

/// Seconds from block to block: 100 blocks make a day.
const SECONDS: u64 = 864;

/// Rows of a block, at most, but for its transactions.
const MOST: u64 = 40;

/// The tables of the ranges: those with rows of one block each.
pub const TABLES: [&str; 9] = [
    "blocks",
    "transactions",
    "logs",
    "withdrawals",
    "uncles",
    "token_transfers",
    "native_transfers",
    "balances",
    "gas_blocks",
];

/// The same.
pub fn tables() -> Selection {
    Selection::parse(TABLES).unwrap()
}

/// A volume of made-up blocks.
pub struct Sealed {
    pub store: Store,
    /// Blocks of another branch have other hashes.
    branch: u64,
    /// Transactions in a block, at most; of other rows there are as many, up to [`MOST`].
    pub transactions: u64,
}

impl Sealed {
    /// An empty volume.
    pub fn new(root: &Path) -> Self {
        let store = Store::open(root).unwrap();
        let identity = identity();
        let chain = Chain {
            format: FORMAT,
            identity,
            finalized_seen: true,
            blob_schedule: None,
            weth: None,
            issuance: None,
        };
        store.set_chain(&chain).unwrap();
        Self { store, branch: 0, transactions: 3 }
    }

    /// The same volume, with blocks of another branch from now on.
    pub fn fork(&mut self) {
        self.branch += 1;
    }

    /// Seals ranges of 100 blocks: those that begin in `blocks`.
    pub fn seal(&self, blocks: std::ops::Range<u64>) {
        self.seal_with(blocks, tables(), &[]);
    }

    /// The same with these tables only, and with gaps.
    pub fn seal_with(&self, blocks: std::ops::Range<u64>, tables: Selection, gaps: &[Gap]) {
        for first in blocks.step_by(100) {
            let mut range =
                RangeWriter::create(&self.store, identity(), first, first + 99, tables).unwrap();
            for number in first..first + 100 {
                let parts = tables.tables().map(|table| Part::Rows(self.rows(table, number)));
                let gaps: Vec<_> = gaps.iter().filter(|gap| gap.first == number).cloned().collect();
                range.push(parts.collect(), &[self.link(number)], &gaps).unwrap();
            }
            range.finish().unwrap().commit(&self.store).unwrap();
        }
    }

    /// Merges whatever can be merged, and deletes what it was merged from.
    pub fn merge(&self) {
        let ranges = || read_ranges(self.store.root()).unwrap();
        while let Some(merge) = next_merge(&ranges(), tables()) {
            merge.run(&self.store, &Stop::default()).unwrap();
        }
        self.store.collect_losers(std::time::Duration::ZERO).unwrap();
    }

    fn rows(&self, table: &'static Table, number: u64) -> arrow::array::RecordBatch {
        let mut rows = Rows::new(table);
        let count = match table.name {
            "blocks" | "gas_blocks" => 1,
            "uncles" | "tokens" | "large_transfers" => 0,
            "transactions" => (7 * number + 1) % (self.transactions + 1),
            _ => (7 * number + 1) % (self.transactions.min(MOST) + 1),
        };
        for index in 0..count {
            self.push(&mut rows, table, number, index);
        }
        rows.finish()
    }

    /// Appends a row; each shape of a value occurs in some row.
    fn push(&self, rows: &mut Rows, table: &Table, number: u64, index: u64) {
        let mut after_wide = false;
        for (place, column) in table.columns.iter().enumerate() {
            // An amount's text column is written along with it.
            if std::mem::take(&mut after_wide) {
                continue;
            }
            let shape = (number + index + place as u64) % 5;
            match (column.kind, column.name) {
                (Kind::Integer, "number" | "block_number" | "first_block" | "last_block") => {
                    rows.integer(number).unwrap();
                }
                (Kind::Integer, name) if name.ends_with("index") => rows.integer(index).unwrap(),
                (Kind::Integer, _) => {
                    let values = [None, Some(0), Some(21_000), Some((1 << 53) + 1), Some(1 << 62)];
                    rows.integer(values[shape as usize]).unwrap();
                }
                (Kind::Long, _) => rows.long([None, Some(7), Some(u64::MAX)][shape as usize % 3]),
                (Kind::Wide, _) => {
                    let wei = U256::from(10u128.pow(18) + u128::from(number));
                    let exact = U256::from(10u128.pow(38) - 1);
                    let least = (table.name == "balances").then_some(U256::ZERO);
                    let values = [least, Some(wei), Some(exact), Some(U256::MAX), Some(wei)];
                    rows.wide(values[shape as usize]);
                    after_wide = true;
                }
                (Kind::Percent, _) => rows.percent(number % 7, 7),
                (Kind::Time, "day") => rows.time(time_of(number) / 86_400 * 86_400),
                (Kind::Time, _) => rows.time(time_of(number)),
                (Kind::TextList, _) => {
                    let list = [B256::repeat_byte(1), B256::repeat_byte(2)];
                    rows.hex_list([None, Some(&list[..]), Some(&[])][shape as usize % 3]);
                }
                (Kind::Text | Kind::Key, name) => self.push_text(rows, table, name, number, index),
            }
        }
    }

    fn push_text(&self, rows: &mut Rows, table: &Table, name: &str, number: u64, index: u64) {
        match name {
            "block_hash" => rows.hex(self.hash(number)),
            "hash" if table.name == "blocks" => rows.hex(self.hash(number)),
            "parent_hash" => rows.hex(self.link(number).parent_hash),
            "asset" => rows.text("ETH"),
            "role" => rows.text("sender"),
            "address" => rows.hex(&hash_of("address", number, index)[12..]),
            "logs_bloom" => rows.hex([0; 256]),
            "input" | "data" | "extra_data" => {
                let odd = ["", "a,b", "\"quoted\"", "two\r\nlines", "🐋 \u{202e}\\ 'x'", "null"];
                rows.text(odd[(number + index) as usize % odd.len()]);
            }
            _ if (number + index).is_multiple_of(4) => rows.text(None),
            _ => rows.hex(hash_of(name, number, index)),
        }
    }

    fn hash(&self, number: u64) -> B256 {
        hash_of("block", number, if number < 150 { 0 } else { self.branch })
    }

    fn link(&self, number: u64) -> BlockLink {
        let parent_hash = number.checked_sub(1).map_or(B256::ZERO, |parent| self.hash(parent));
        BlockLink { number, hash: self.hash(number), parent_hash, timestamp: time_of(number) }
    }
}

fn identity() -> Identity {
    Identity { chain_id: 1.into(), genesis_hash: B256::repeat_byte(1) }
}

fn time_of(number: u64) -> u64 {
    GENESIS_TIME + SECONDS * number
}

fn hash_of(what: &str, number: u64, index: u64) -> B256 {
    keccak256([what.as_bytes(), &number.to_be_bytes(), &index.to_be_bytes()].concat())
}
