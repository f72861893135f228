//! A volume whose ranges are sealed, merged and repaired by the test, and the lake made of it.

use super::log::{Table, whole};
use crate::rig::Spyhop;
use alloy_primitives::{B256, U256};
use arrow::array::RecordBatch;
use spyhop::rows::{Kind, Part, Rows, Selection, address_flows, blocks};
use spyhop::stop::Stop;
use spyhop::store::{
    BlockLink, Chain, FORMAT, Identity, Merge, Range, RangeWriter, Store, next_merge,
};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The first timestamp, and the block interval in seconds: a range of 100 has two days at most.
const GENESIS_TIME: u64 = 1_750_000_000;
const SECONDS: u64 = 600;

/// The tables of the volume: one in block order, one combined, one without rows.
pub const TABLES: [&str; 3] = ["blocks", "address_flows", "uncles"];

/// A volume and its lake.
pub struct Scene {
    directory: TempDir,
    pub store: Store,
}

impl Scene {
    /// A volume without ranges.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("lake").tempdir().unwrap();
        let store = Store::open(&directory.path().join("data")).unwrap();
        let chain = Chain {
            format: FORMAT,
            identity: identity(),
            finalized_seen: true,
            blob_schedule: None,
            issuance: None,
            weth: None,
        };
        store.set_chain(&chain).unwrap();
        Self { directory, store }
    }

    /// A volume with ranges of blocks `0..100 * ranges`.
    pub fn with_ranges(ranges: u64) -> Self {
        let scene = Self::new();
        (0..ranges).for_each(|index| _ = scene.seal(index * 100, index * 100 + 99, 0));
        scene
    }

    pub fn data(&self) -> &Path {
        self.store.root()
    }

    pub fn lake(&self) -> PathBuf {
        self.data().join("lake")
    }

    /// A directory beside the volume.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A table of the lake.
    pub fn table(&self, name: &str) -> Table {
        Table::new(&self.lake().join(name))
    }

    /// `spyhop lake` of the volume.
    pub fn command(&self) -> Spyhop {
        Spyhop::new("lake").path("--data", self.data())
    }

    /// Seals these blocks, with rows that depend on `salt`; if they are sealed, again as a new
    /// generation.
    pub fn seal(&self, first: u64, last: u64, salt: u64) -> Range {
        let tables = Selection::parse(TABLES).unwrap();
        let mut writer = RangeWriter::create(&self.store, identity(), first, last, tables).unwrap();
        let links: Vec<_> = (first..=last).map(link).collect();
        // In the order of the volume's tables.
        let parts = tables.tables().map(|table| {
            Part::Rows(match table.name {
                "blocks" => blocks(first, last, salt),
                "address_flows" => flows(first, last, salt),
                _ => Rows::new(table).finish(),
            })
        });
        writer.push(parts.collect(), &links, &[]).unwrap();
        writer.finish().unwrap().commit(&self.store).unwrap()
    }

    /// The next merge, if ten neighbours are sealed.
    pub fn next_merge(&self) -> Option<Merge> {
        next_merge(&self.store.ranges().unwrap(), Selection::parse(TABLES).unwrap())
    }

    /// Merges ten neighbours; the sources stay.
    pub fn merge(&self) -> Range {
        self.next_merge().expect("ten neighbours").run(&self.store, &Stop::default()).unwrap()
    }

    /// Deletes superseded ranges.
    pub fn collect(&self) {
        self.store.collect_losers(Duration::ZERO).unwrap();
    }

    /// Requires that the lake is what the volume is, and that every version of it is whole.
    #[track_caller]
    pub fn check(&self) {
        let ranges = self.store.ranges().unwrap();
        for name in TABLES {
            let table = self.table(name);
            let expected: Vec<_> = ranges
                .iter()
                .map(|range| {
                    let held = &range.manifest.tables[name];
                    (range.first, range.last, held.bytes, held.rows, held.blake3.clone())
                })
                .collect();
            let mut found: Vec<_> = table.newest().into_iter().map(|file| file.key()).collect();
            found.sort();
            assert_eq!(found, expected, "{name}");
        }
        whole(&self.lake(), &TABLES);
    }
}

fn identity() -> Identity {
    Identity { chain_id: 1.into(), genesis_hash: B256::repeat_byte(7) }
}

fn link(number: u64) -> BlockLink {
    let hash = |number: u64| B256::from(U256::from(number));
    let timestamp = GENESIS_TIME + number * SECONDS;
    BlockLink { number, hash: hash(number + 1), parent_hash: hash(number), timestamp }
}

/// One row for each block.
fn blocks(first: u64, last: u64, salt: u64) -> RecordBatch {
    let mut rows = Rows::new(&blocks::TABLE);
    for number in first..=last {
        let mut columns = blocks::TABLE.columns.iter();
        while let Some(column) = columns.next() {
            match (column.kind, column.name) {
                (Kind::Integer, "number") => rows.integer(number).unwrap(),
                (Kind::Integer, _) => rows.integer(None).unwrap(),
                (Kind::Wide, _) => {
                    rows.wide(U256::from(salt));
                    columns.next();
                }
                (Kind::Time, _) => rows.time(link(number).timestamp),
                (Kind::Long, _) => rows.long(None),
                (Kind::TextList, _) => rows.hex_list(None::<&[B256]>),
                (Kind::Percent, _) => rows.percent(0, 1),
                (Kind::Text | Kind::Key, _) => rows.text(None),
            }
        }
    }
    rows.finish()
}

/// One row for each day, of the same address: they are added up in a merge.
fn flows(first: u64, last: u64, salt: u64) -> RecordBatch {
    let mut rows = Rows::new(&address_flows::TABLE);
    for number in first..=last {
        rows.text("ETH");
        rows.text(format!("0x{:040x}", 7).as_str());
        rows.time(link(number).timestamp / 86_400 * 86_400);
        rows.wide(U256::from(1_000 + salt));
        rows.wide(U256::ZERO);
        rows.integer(1).unwrap();
        rows.integer(0).unwrap();
        rows.integer(number).unwrap();
        rows.integer(number).unwrap();
    }
    rows.finish()
}
