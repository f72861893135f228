//! Supplies from the ranking's sums, against those from all stored flows, while ranges are added,
//! merged and repaired.

use crate::rig::published::{Published, Row};
use crate::rig::random::Random;
use alloy_primitives::{Address, B256, U256};
use arrow::array::RecordBatch;
use spyhop::answers::{Labels, RankLimits, Ranking};
use spyhop::events::Events;
use spyhop::publish::{Contents, Directory, Publisher};
use spyhop::rows::balances::Balance;
use spyhop::rows::coverage::Interval;
use spyhop::rows::{Kind, Part, Rows, Selection, Table, combine};
use spyhop::stop::Stop;
use spyhop::store::{BlockLink, Identity, RangeWriter, Store, TailBlock, next_merge, tail};

/// Blocks of the smallest range.
const BLOCKS: u64 = 100;
const GENESIS_TIME: u64 = 1_750_000_000;

/// Tokens: one with a supply of 39 digits and more, one that is only counted, one of which more is
/// burnt than made, and one whose balances are not known.
const HUGE: u8 = 2;
const COUNTED: u8 = 3;
const BURNT: u8 = 4;
const UNKNOWN: u8 = 5;

fn token(byte: u8) -> Address {
    Address::repeat_byte(byte)
}

fn holder(number: u64) -> Address {
    Address::from_word(U256::from(number).into())
}

fn link(number: u64) -> BlockLink {
    let hash = |number: u64| B256::from(U256::from(number));
    let timestamp = GENESIS_TIME + number * 600;
    BlockLink { number, hash: hash(number + 1), parent_hash: hash(number), timestamp }
}

/// A volume of blocks with random flows, balances and fees.
struct Volume {
    _directory: tempfile::TempDir,
    store: Store,
    publisher: Publisher,
    random: Random,
    tables: Selection,
}

impl Volume {
    fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("data")).unwrap();
        let tables =
            Selection::parse(["blocks", "balances", "gas_blocks", "address_flows"]).unwrap();
        let (publisher, random) = (Publisher::new(&store, None).unwrap(), Random::new(name));
        Self { _directory: directory, store, publisher, random, tables }
    }

    /// The rows of a block's tables.
    fn block(&mut self, number: u64) -> Vec<RecordBatch> {
        let tables: Vec<_> = self.tables.tables().collect();
        let rows = |table: &&'static Table| match table.name {
            "balances" => balances(&mut self.random, number),
            "address_flows" => self.flows(table, number),
            _ => self.plain(table, number),
        };
        tables.iter().map(rows).collect()
    }

    /// Rows with fees only.
    fn plain(&mut self, table: &'static Table, number: u64) -> RecordBatch {
        let mut rows = Rows::new(table);
        let mut columns = table.columns.iter();
        while let Some(column) = columns.next() {
            match (column.kind, column.name) {
                (Kind::Integer, "number" | "block_number") => rows.integer(number).unwrap(),
                (Kind::Integer, _) => rows.integer(None).unwrap(),
                (Kind::Wide, name) => {
                    let fee = U256::from(self.random.within(1..=1_000_000_000));
                    let is_burnt =
                        name == "burnt" || (name == "blob_burnt" && number.is_multiple_of(3));
                    rows.wide(is_burnt.then_some(fee));
                    columns.next();
                }
                (Kind::Time, _) => rows.time(link(number).timestamp),
                (Kind::Long, _) => rows.long(None),
                (Kind::TextList, _) => rows.hex_list(None::<&[B256]>),
                (Kind::Percent, _) => rows.percent(0, 1),
                (Kind::Text | Kind::Key, _) => rows.text(None),
            }
        }
        rows.finish()
    }

    fn flows(&mut self, table: &'static Table, number: u64) -> RecordBatch {
        let random = &mut self.random;
        let mut amount = |max: u64| U256::from(random.within(0..=max));
        let huge = if number.is_multiple_of(2) { U256::MAX } else { U256::ZERO };
        let zero = Address::ZERO;
        let flows = [
            (Some(1), zero, amount(1_000), amount(1_000_000)),
            (Some(1), holder(1), amount(1_000), amount(1_000)),
            (Some(HUGE), zero, amount(9), huge),
            (Some(COUNTED), zero, U256::ZERO, U256::ZERO),
            (Some(BURNT), zero, amount(1_000_000), amount(1_000)),
            (Some(UNKNOWN), zero, amount(1_000), amount(1_000_000)),
            (None, zero, amount(1 << 60), U256::ZERO),
            (None, holder(number % 7 + 1), amount(1 << 62), amount(1 << 60)),
        ];
        let mut rows = Rows::new(table);
        for (asset, address, amount_in, amount_out) in flows {
            match asset {
                Some(byte) => rows.hex(token(byte)),
                None => rows.text("ETH"),
            }
            rows.hex(address);
            rows.time(link(number).timestamp / 86_400 * 86_400);
            rows.wide(amount_in);
            rows.wide(amount_out);
            [1, 1, number, number].into_iter().for_each(|count| rows.integer(count).unwrap());
        }
        rows.finish()
    }

    /// Writes the range of these blocks, as another generation if there is one.
    fn write(&mut self, first: u64, blocks: u64) {
        let identity = Identity { chain_id: 1.into(), genesis_hash: B256::ZERO };
        let (last, tables) = (first + blocks - 1, self.tables);
        let blocks: Vec<_> = (first..=last).map(|number| self.block(number)).collect();
        let mut writer = RangeWriter::create(&self.store, identity, first, last, tables).unwrap();
        for (number, batches) in (first..=last).zip(blocks) {
            let parts = batches.into_iter().map(Part::Rows).collect();
            writer.push(parts, &[link(number)], &[]).unwrap();
        }
        writer.finish().unwrap().commit(&self.store).unwrap();
    }

    /// Writes some of the smallest ranges.
    fn write_some(&mut self, ranges: std::ops::Range<u64>) {
        ranges.for_each(|range| self.write(range * BLOCKS, BLOCKS));
    }

    /// Merges ten ranges.
    fn merge(&self) {
        let merge = next_merge(&self.store.ranges().unwrap(), self.tables).unwrap();
        merge.run(&self.store, &Stop::default()).unwrap();
    }

    fn rank(&self) -> Ranking {
        self.rank_with(RankLimits::default())
    }

    fn rank_with(&self, limits: RankLimits) -> Ranking {
        let ranges = self.store.ranges().unwrap();
        Ranking::make(&self.store, &ranges, limits, &Stop::default()).unwrap()
    }

    /// Three blocks above the ranges.
    fn tail(&mut self) -> Vec<BlockLink> {
        let first = self.store.ranges().unwrap().last().unwrap().last + 1;
        let links: Vec<_> = (first..first + 3).map(link).collect();
        let blocks = links.iter().map(|link| TailBlock {
            link: *link,
            tables: self.tables,
            batches: self.block(link.number),
            gaps: Vec::new(),
        });
        let blocks: Vec<_> = blocks.collect();
        tail::write(&self.store, &blocks).unwrap();
        links
    }

    fn publish(&mut self, tail: &[BlockLink], ranking: Option<&Ranking>) -> Published {
        let ranges = self.store.ranges().unwrap();
        let directory = |range: &spyhop::store::Range| Directory {
            path: range.path.clone(),
            tables: range.tables(),
            older: range.manifest.older(),
            first: range.first,
            last: range.last,
            last_timestamp: range.manifest.last_timestamp,
            fingerprint: Some(range.manifest.fingerprint()),
        };
        let directories: Vec<_> = ranges.iter().map(directory).collect();
        let first = ranges[0].first;
        let last = tail.last().map_or(ranges.last().unwrap().last, |link| link.number);
        let held = |table: &Table| Interval { first, last, ..Interval::held(table.name) };
        let coverage: Vec<_> = self.tables.tables().map(held).collect();
        let labels = Labels::open(1.into(), None, None).unwrap();
        let state = Contents {
            ranges: &directories,
            tail,
            tables: self.tables,
            coverage: &coverage,
            reorgs: &[],
            labels: &labels,
            events: &Events::open(None).unwrap(),
            ranking,
        };
        self.publisher.publish(&self.store, &state).unwrap();
        Published::open(self.store.root())
    }

    /// Checks that the ranking's sums are used up to this block, and that every supply is as
    /// without it.
    #[track_caller]
    fn check(&mut self, tail: &[BlockLink], ranking: &Ranking, summed: Option<u64>) {
        let expected = answers(&self.publish(tail, None));
        let found = self.publish(tail, Some(ranking));
        // Those of whales are not computed if they are not known.
        let is_known = self.store.ranges().unwrap()[0].first == 0;
        for view in
            ["supply", "whales", "whales_coverage"].iter().take(if is_known { 3 } else { 1 })
        {
            let used = format!(
                "SELECT regexp_extract(sql, 'last_block <= \\(*(-?[0-9]+)', 1)
                FROM duckdb_views() WHERE view_name = '{view}'"
            );
            let used: i64 = found.value(&used).unwrap().parse().expect(view);
            assert_eq!(u64::try_from(used).ok(), summed, "{view}");
        }
        assert_eq!(answers(&found), expected);
    }
}

fn balances(random: &mut Random, block_number: u64) -> RecordBatch {
    let asset = |byte: u8| (byte > 0).then(|| token(byte));
    let balances: Vec<_> = [1, HUGE, BURNT, 0]
        .map(|byte| Balance {
            asset: asset(byte),
            address: holder(block_number % 20 + 1),
            block_number,
            balance: U256::from(random.next() % 100_000_000),
        })
        .into();
    combine::write(&balances).unwrap()
}

/// The supplies, and the shares of them.
#[track_caller]
fn answers(found: &Published) -> Vec<Vec<Row>> {
    let answers = [
        "FROM supply ORDER BY asset",
        "SELECT asset, rank, address, share FROM whales ORDER BY ALL",
        "SELECT asset, supply, supply_text FROM whales_coverage ORDER BY asset",
    ];
    answers.map(|query| found.rows(&format!("SELECT * FROM ({query})"))).into()
}

#[test]
fn supplies_are_the_same_from_the_sums_of_a_ranking() {
    let mut volume = Volume::new("supplies");
    volume.write_some(0..8);
    let eight = volume.rank();
    volume.check(&[], &eight, Some(799));
    volume.write_some(8..12);
    let tail = volume.tail();
    let twelve = volume.rank();
    volume.check(&tail, &eight, Some(799));
    volume.check(&tail, &twelve, Some(1_199));
    // What is compared.
    let [supply, whales, coverage] = &answers(&volume.publish(&tail, Some(&twelve)))[..] else {
        panic!("three answers")
    };
    let of = |byte: u8| {
        let asset = format!("{:?}", token(byte));
        supply.iter().find(|row| row["asset"].as_deref() == Some(&asset))
    };
    assert_eq!((supply.len(), coverage.len()), (5, 4), "{supply:?}");
    assert!(of(COUNTED).is_none());
    assert!(of(UNKNOWN).unwrap()["supply"].is_some());
    assert!(of(HUGE).unwrap()["supply_text"].as_ref().is_some_and(|digits| digits.len() > 78));
    let [made, burnt, supply_of_it] =
        ["made", "burnt", "supply"].map(|name| of(BURNT).unwrap()[name].is_some());
    assert_eq!((made, burnt, supply_of_it), (true, true, false));
    assert!(supply.last().unwrap()["supply"].is_some(), "that of ether");
    let shares = |asset: &str| {
        let rows = whales.iter().filter(|row| row["asset"].as_deref() == Some(asset));
        rows.filter(|row| row["share"].is_some()).count()
    };
    // One of the token's holders moves it in every block.
    assert_eq!((shares("ETH"), shares(&format!("{:?}", token(1)))), (20, 19));
}

#[test]
fn a_merge_keeps_the_sums_of_the_blocks_below_it() {
    let mut volume = Volume::new("merged supplies");
    volume.write_some(0..8);
    let eight = volume.rank();
    volume.write_some(8..12);
    let twelve = volume.rank();
    volume.merge();
    let tail = volume.tail();
    volume.check(&tail, &twelve, Some(1_199));
    // Its end is within the merged range.
    volume.check(&tail, &eight, None);
    // A merge at the top costs only the sums of what is above the larger ranges.
    let merged = volume.rank();
    volume.check(&tail, &merged, Some(1_199));
    volume.write_some(12..20);
    volume.merge();
    volume.check(&[], &merged, Some(999));
}

#[test]
fn sums_are_not_used_for_blocks_from_a_repaired_range_on() {
    let mut volume = Volume::new("repaired supplies");
    volume.write_some(0..12);
    let whole = volume.rank();
    // Each range is a group.
    let limits = RankLimits { tokens: 1, ..RankLimits::default() };
    let groups = volume.rank_with(limits);
    volume.check(&[], &groups, Some(1_199));
    volume.write(500, BLOCKS);
    assert_eq!(volume.store.ranges().unwrap()[5].generation, 2);
    volume.check(&[], &whole, None);
    volume.check(&[], &groups, Some(499));
    let again = volume.rank();
    volume.check(&[], &again, Some(1_199));
    // A merge does not hide that.
    volume.merge();
    volume.check(&[], &again, Some(1_199));
    volume.check(&[], &whole, None);
    volume.check(&[], &groups, None);
    // Nor does the merged range's own repair.
    volume.write(0, 1_000);
    volume.check(&[], &again, None);
    let tail = volume.tail();
    let repaired = volume.rank();
    volume.check(&tail, &repaired, Some(1_199));
}

#[test]
fn sums_are_not_used_after_lower_ranges_arrived() {
    let mut volume = Volume::new("supplies of history");
    volume.write_some(2..4);
    let newest = volume.rank();
    volume.check(&[], &newest, Some(399));
    volume.write_some(1..2);
    volume.check(&[], &newest, None);
    volume.write_some(0..1);
    let tail = volume.tail();
    volume.check(&tail, &newest, None);
    let whole = volume.rank();
    volume.check(&tail, &whole, Some(399));
}
