//! The ranking of holders, made from some of the ranges and combined with newer ones, against one
//! query over all balances.

use crate::rig::published::Published;
use crate::rig::random::Random;
use alloy_primitives::{Address, B256, U256};
use arrow::array::{
    ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use spyhop::answers::{Labels, RankLimits, Ranking, ranking};
use spyhop::events::Events;
use spyhop::publish::{Contents, Directory, Publisher};
use spyhop::rows::balances::Balance;
use spyhop::rows::{Gap, Kind, Lacks, Part, Rows, Selection, address_flows, blocks, combine};
use spyhop::stop::{Stop, Stopped};
use spyhop::store::{BlockLink, Identity, Range, RangeWriter, Store, next_merge};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Blocks of a range, and the block interval in seconds: a day and a week begin within ranges.
const BLOCKS: u64 = 100;
const SECONDS: u64 = 600;
const GENESIS_TIME: u64 = 1_750_000_000;

/// Holders of an asset.
const HOLDERS: u64 = 300;

/// Ether, tokens with all kinds of balances, one with equal balances, one with few holders.
fn balances(random: &mut Random, block_number: u64) -> Vec<Balance> {
    let mut balances: Vec<_> = (0..40)
        .map(|_| {
            let asset = random.within(0..=4);
            let holders = if asset == 4 { 5 } else { HOLDERS };
            let address = Address::from_word(U256::from(random.within(1..=holders)).into());
            let balance = match (asset, random.within(0..=9)) {
                (3, _) => U256::from(1_000),
                (_, 0) => U256::ZERO,
                (1, 1) => U256::MAX - U256::from(random.within(0..=5)),
                (_, 2) => U256::from(7),
                _ => U256::from(random.next()) * U256::from(1_000_000_007),
            };
            let asset = (asset > 0).then(|| Address::repeat_byte(asset as u8));
            Balance { asset, address, block_number, balance }
        })
        .collect();
    balances.sort_by_key(|balance| (balance.asset, balance.address));
    balances.dedup_by_key(|balance| (balance.asset, balance.address));
    balances
}

/// A flow for each changed balance.
fn flows(balances: &[Balance], time: u64) -> RecordBatch {
    let count = balances.len();
    let asset =
        |balance: &Balance| balance.asset.map_or("ETH".to_owned(), |asset| format!("{asset:?}"));
    let texts = |text: &dyn Fn(&Balance) -> String| -> ArrayRef {
        Arc::new(balances.iter().map(|balance| Some(text(balance))).collect::<StringArray>())
    };
    let amounts = || -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![5; count]).with_precision_and_scale(38, 0).unwrap())
    };
    let nothing = || -> ArrayRef { Arc::new(StringArray::from(vec![None::<&str>; count])) };
    let numbers =
        |number: u64| -> ArrayRef { Arc::new(Int64Array::from(vec![number as i64; count])) };
    let block = balances[0].block_number;
    let day = (time / 86_400 * 86_400_000_000) as i64;
    let columns = vec![
        texts(&asset),
        texts(&|balance| format!("{:?}", balance.address)),
        Arc::new(TimestampMicrosecondArray::from(vec![day; count])),
        amounts(),
        nothing(),
        amounts(),
        nothing(),
        numbers(1),
        numbers(1),
        numbers(block),
        numbers(block),
    ];
    RecordBatch::try_new(address_flows::TABLE.schema(), columns).unwrap()
}

/// Only its number and its time.
fn block(number: u64, time: u64) -> RecordBatch {
    let mut rows = Rows::new(&blocks::TABLE);
    let mut columns = blocks::TABLE.columns.iter();
    while let Some(column) = columns.next() {
        match (column.kind, column.name) {
            (Kind::Integer, "number") => rows.integer(number).unwrap(),
            (Kind::Integer, _) => rows.integer(None).unwrap(),
            (Kind::Wide, _) => {
                rows.wide(None);
                columns.next();
            }
            (Kind::Time, _) => rows.time(time),
            (Kind::Long, _) => rows.long(None),
            (Kind::TextList, _) => rows.hex_list(None::<&[B256]>),
            (Kind::Percent, _) => rows.percent(0, 1),
            (Kind::Text | Kind::Key, _) => rows.text(None),
        }
    }
    rows.finish()
}

fn write(store: &Store, random: &mut Random, range: u64) {
    write_with(store, random, range, &[], |_| true);
}

/// The same with gaps, and with flows of everybody but balances only of some.
fn write_with(
    store: &Store,
    random: &mut Random,
    range: u64,
    gaps: &[Gap],
    told: impl Fn(&Balance) -> bool,
) {
    let tables = Selection::parse(["blocks", "balances", "address_flows"]).unwrap();
    let identity = Identity { chain_id: 1.into(), genesis_hash: B256::ZERO };
    let (first, last) = (range * BLOCKS, range * BLOCKS + BLOCKS - 1);
    let mut writer = RangeWriter::create(store, identity, first, last, tables).unwrap();
    for number in first..=last {
        let hash = |number: u64| B256::from(U256::from(number));
        let timestamp = GENESIS_TIME + number * SECONDS;
        let link =
            BlockLink { number, hash: hash(number + 1), parent_hash: hash(number), timestamp };
        let balances = balances(random, number);
        let block = Part::Rows(block(number, timestamp));
        let told = combine::write(balances.iter().filter(|balance| told(balance))).unwrap();
        let parts = vec![block, Part::Rows(told), Part::Rows(flows(&balances, timestamp))];
        let gaps: Vec<_> = gaps.iter().filter(|gap| gap.first == number).cloned().collect();
        writer.push(parts, &[link], &gaps).unwrap();
    }
    writer.finish().unwrap().commit(store).unwrap();
}

fn publish(store: &Store, ranges: &[Range], ranking: Option<&Ranking>) -> Published {
    let directories: Vec<_> = ranges
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
    let (labels, events) =
        (Labels::open(1.into(), None, None).unwrap(), Events::open(None).unwrap());
    let tables = ranges[0].tables();
    let (ranges, labels, events) = (&directories[..], &labels, &events);
    let state =
        Contents { ranges, tail: &[], tables, coverage: &[], reorgs: &[], labels, events, ranking };
    Publisher::new(store, None).unwrap().publish(store, &state).unwrap();
    Published::open(store.root())
}

/// All of `whales`, by one query over every balance and flow.
fn brute_force(ranges: &[Range]) -> String {
    let newest = ranges.last().unwrap().manifest.last_timestamp;
    let before = |seconds: u64| {
        let last = (newest - seconds - GENESIS_TIME) / SECONDS;
        format!("arg_max(known, block_number) FILTER (block_number <= {last})::BIGNUM")
    };
    format!(
        "SELECT asset,
            row_number() OVER (PARTITION BY asset ORDER BY balance DESC, address) AS rank,
            address, balance::VARCHAR AS balance, block_number,
            (balance - day)::VARCHAR AS change_24h, (balance - week)::VARCHAR AS change_7d,
            first_block, last_block
        FROM (SELECT asset, address, arg_max(known, block_number)::BIGNUM AS balance,
                max(block_number) AS block_number, {} AS day, {} AS week
            FROM (SELECT *, coalesce(balance::VARCHAR, balance_text) AS known FROM balances)
            GROUP BY asset, address)
        JOIN (SELECT asset, address, min(first_block) AS first_block, max(last_block) AS last_block
            FROM address_flows
            GROUP BY ALL)
            USING (asset, address)
        WHERE balance > 0::BIGNUM",
        before(86_400),
        before(7 * 86_400)
    )
}

const FOUND: &str = "SELECT asset, rank, address,
        coalesce(balance::VARCHAR, balance_text) AS balance, block_number,
        coalesce(change_24h::VARCHAR, change_24h_text) AS change_24h,
        coalesce(change_7d::VARCHAR, change_7d_text) AS change_7d,
        first_block, last_block
    FROM whales";

#[track_caller]
fn count(found: &Published, sql: &str) -> u64 {
    found.value(&format!("SELECT count(*) FROM ({sql})")).unwrap().parse().unwrap()
}

#[test]
fn a_ranking_plus_newer_balances_equals_a_query_over_all_balances() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("data")).unwrap();
    let mut random = Random::new("ranking");
    for range in 0..12 {
        write(&store, &mut random, range);
    }
    // Ten of them become one.
    next_merge(&store.ranges().unwrap(), Selection::parse(["blocks", "balances"]).unwrap())
        .unwrap()
        .run(&store, &Stop::default())
        .unwrap();
    let all = store.all_ranges().unwrap();
    let small: Vec<_> = all.into_iter().filter(|range| range.blocks() == BLOCKS).collect();
    assert_eq!(small.len(), 12);
    let ranges = store.ranges().unwrap();
    assert_eq!(ranges.len(), 3);
    let expected = brute_force(&ranges);
    // Only `balances`: both queries agree, so this one is right too.
    let found = publish(&store, &ranges, None);
    let holders = count(&found, &expected);
    assert!(holders > 1_000, "{holders}");
    let same = |found: &Published, what: &str| {
        assert_eq!(count(found, &format!("{expected} EXCEPT ALL {FOUND}")), 0, "{what}");
        assert_eq!(count(found, &format!("{FOUND} EXCEPT ALL {expected}")), 0, "{what}");
    };
    same(&found, "no ranking");
    for ranked in [1, 6, 9, 12] {
        // With more files than are read at once, and with fewer.
        let limits = RankLimits { files: 4, ..RankLimits::default() };
        let ranking = Ranking::make(&store, &small[..ranked], limits, &Stop::default()).unwrap();
        let found = publish(&store, &ranges, Some(&ranking));
        same(&found, &format!("{ranked} ranges are ranked"));
        // Counts and sums are those of the ranking's last block.
        let last = ranked as u64 * BLOCKS - 1;
        let known = format!(
            "SELECT asset, count(*) AS n, sum(b)::VARCHAR AS b, {last} AS block_number
            FROM (SELECT asset, address,
                    arg_max(coalesce(balance::VARCHAR, balance_text), block_number)::BIGNUM AS b
                FROM balances
                WHERE block_number <= {last}
                GROUP BY ALL)
            GROUP BY asset"
        );
        let told = "SELECT asset, address_count, coalesce(balance::VARCHAR, balance_text),
                block_number
            FROM whales_coverage";
        assert_eq!(count(&found, told), 5);
        assert_eq!(
            count(&found, &format!("{known} EXCEPT ALL {told}")),
            0,
            "{}",
            found.rows(told).len()
        );
    }
    // If not all are ranked, those that are have their true ranks.
    for (of_asset, of_all, ranked) in
        [(100, 1_000, 12), (100, 1_000, 11), (100, 150, 10), (50, 60, 12), (60, 1_000, 2)]
    {
        let limits = RankLimits { of_asset, of_all, files: 2, ..RankLimits::default() };
        let ranking = Ranking::make(&store, &small[..ranked], limits, &Stop::default()).unwrap();
        let found = publish(&store, &ranges, Some(&ranking));
        let what = format!("{limits:?} of {ranked} ranges");
        let part = |query: &str| {
            format!("SELECT asset, rank, address, balance, block_number FROM ({query})")
        };
        assert_eq!(
            count(&found, &format!("{} EXCEPT ALL {}", part(FOUND), part(&expected))),
            0,
            "{what}"
        );
        // And earlier balances and first blocks are right where present.
        let wrong = count(
            &found,
            &format!(
                "SELECT 1
                FROM ({FOUND}) AS f
                JOIN ({expected}) AS e USING (asset, address)
                WHERE f.change_24h <> e.change_24h OR f.change_7d <> e.change_7d
                    OR f.last_block <> e.last_block OR f.first_block < e.first_block"
            ),
        );
        assert_eq!(wrong, 0, "{what}");
        let shown =
            |asset: &str| count(&found, &format!("SELECT 1 FROM whales WHERE asset = '{asset}'"));
        let few = format!("{:?}", Address::repeat_byte(4));
        let all_of_few =
            count(&found, &format!("SELECT 1 FROM ({expected}) WHERE asset = '{few}'"));
        assert!(shown(&few) == all_of_few || of_all < 1_000, "{what}: {}", shown(&few));
        let stays = if ranked == 12 { of_asset as u64 } else { 1 };
        assert!((stays..HOLDERS).contains(&shown("ETH")), "{what}: {}", shown("ETH"));
        let token = shown(&format!("{:?}", Address::repeat_byte(2)));
        assert!(token < shown("ETH") || of_all == 1_000, "{what}: {token}");
    }
}

#[test]
fn a_ranking_is_repeated_when_ranges_changed_and_reused_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("data")).unwrap();
    let mut random = Random::new("rankings");
    (0..2).for_each(|range| write(&store, &mut random, range));
    let ranges = store.ranges().unwrap();
    assert!(Ranking::is_due(None, &ranges, true));
    assert!(Ranking::newest(&store, &ranges).unwrap().is_none());
    let stopped = Stop::default();
    stopped.set();
    let error = Ranking::make(&store, &ranges, RankLimits::default(), &stopped).unwrap_err();
    assert!(error.is::<Stopped>(), "{error:#}");
    let ranking = Ranking::make(&store, &ranges, RankLimits::default(), &Stop::default()).unwrap();
    assert!(!Ranking::is_due(Some(&ranking), &ranges, false));
    assert_eq!(Ranking::newest(&store, &ranges).unwrap().as_ref(), Some(&ranking));
    // It is of blocks that are no longer stored.
    assert!(Ranking::newest(&store, &ranges[..1]).unwrap().is_none());
    write(&store, &mut random, 2);
    let ranges = store.ranges().unwrap();
    assert!(Ranking::is_due(Some(&ranking), &ranges, false));
    // It was made a moment ago, and more is to come.
    assert!(!Ranking::is_due(Some(&ranking), &ranges, true));
    let next = Ranking::make(&store, &ranges, RankLimits::default(), &Stop::default()).unwrap();
    next.collect_others(&store, std::time::Duration::from_secs(600)).unwrap();
    assert!(store.root().join(&ranking.path).exists());
    // An incomplete one is ignored.
    std::fs::write(store.root().join(&ranking.path).join("manifest.json"), "{").unwrap();
    assert_eq!(Ranking::newest(&store, &ranges).unwrap(), Some(next));
    ranking::remove_all(&store).unwrap();
    assert!(Ranking::newest(&store, &ranges).unwrap().is_none());
}

#[test]
fn ranking_made_by_a_clock_that_was_ahead_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("data")).unwrap();
    let mut random = Random::new("ranking");
    let make = |ranges: &[Range]| {
        Ranking::make(&store, ranges, RankLimits::default(), &Stop::default()).unwrap()
    };
    write(&store, &mut random, 0);
    let first = make(&store.ranges().unwrap());
    let path = store.root().join(&first.path).join("manifest.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["made_at"] = (manifest["made_at"].as_u64().unwrap() + 10 * 365 * 86_400).into();
    // One that is expensive to make.
    manifest["seconds"] = 60.0.into();
    std::fs::write(&path, manifest.to_string()).unwrap();
    write(&store, &mut random, 1);
    let ranges = store.ranges().unwrap();
    let ahead = Ranking::newest(&store, &ranges).unwrap().unwrap();
    assert!(Ranking::is_due(Some(&ahead), &ranges, false), "it is waited for");
    let made = make(&ranges);
    assert_eq!(Ranking::newest(&store, &ranges).unwrap(), Some(made));
}

#[test]
fn balances_that_may_have_changed_unobserved_are_neither_ranked_nor_counted() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("data")).unwrap();
    let mut random = Random::new("unseen");
    let gap = |number, lacks| Gap {
        table: "balances".into(),
        first: number,
        last: number,
        reason: "why".into(),
        lacks,
    };
    write(&store, &mut random, 0);
    // In one block transfers of ether are not known, in another some token holders.
    let gaps = [gap(150, Lacks::Movements), gap(160, Lacks::TokenBalances)];
    write_with(&store, &mut random, 1, &gaps, |_| true);
    // One token's contract no longer replies.
    let silent = Some(Address::repeat_byte(2));
    write_with(&store, &mut random, 2, &[], |balance| balance.asset != silent);
    let ranges = store.ranges().unwrap();
    let ranking = Ranking::make(&store, &ranges, RankLimits::default(), &Stop::default()).unwrap();
    let found = publish(&store, &ranges, Some(&ranking));
    let number = |sql: &str| found.number(sql);
    let asset = |byte: u8| format!("{:?}", Address::repeat_byte(byte));
    let lowest = |asset: &str| {
        number(&format!("SELECT min(block_number) FROM whales WHERE asset = '{asset}'"))
    };
    assert!((150..160).contains(&lowest("ETH")), "{}", lowest("ETH"));
    assert!(lowest(&asset(1)) < 150);
    // The balance a day before, which is 144 blocks, is known if nothing changed unobserved since.
    let known = "SELECT count(*) FROM whales WHERE asset = 'ETH' AND change_24h IS NOT NULL";
    assert_eq!((number(known) > 0, number(&known.replace("24h", "7d"))), (true, 0));
    let stale = format!(
        "SELECT count(*) FROM whales AS w JOIN address_flows AS f USING (asset, address)
         WHERE asset = '{}' AND f.last_block > w.block_number",
        asset(2)
    );
    assert_eq!(number(&stale), 0);
    for asset in ["ETH".to_owned(), asset(1), asset(2)] {
        let [shown, counted] = ["count(*)", "any_value(c.address_count)"].map(|what| {
            number(&format!(
                "SELECT {what}
                FROM whales AS w
                JOIN whales_coverage AS c USING (asset)
                WHERE asset = '{asset}'"
            ))
        });
        // Zero balances are counted too.
        assert!(
            shown > 0 && shown <= counted && counted < shown + 60,
            "{asset}: {shown} of {counted}"
        );
    }
}

#[test]
fn losers_of_a_merge_go_though_its_clock_was_ahead() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("data")).unwrap();
    let mut random = Random::new("losers");
    (0..10).for_each(|range| write(&store, &mut random, range));
    let merge =
        next_merge(&store.ranges().unwrap(), Selection::parse(["blocks", "balances"]).unwrap())
            .unwrap();
    let merged = merge.run(&store, &Stop::default()).unwrap();
    let manifest =
        std::fs::File::open(store.root().join(&merged.path).join("manifest.json")).unwrap();
    manifest.set_modified(SystemTime::now() + Duration::from_secs(86_400)).unwrap();
    let losers = || store.all_ranges().unwrap().len() - 1;
    store.collect_losers(Duration::from_secs(3_600)).unwrap();
    assert_eq!(losers(), 10, "their age is not known yet");
    std::thread::sleep(Duration::from_millis(20));
    store.collect_losers(Duration::ZERO).unwrap();
    assert_eq!(losers(), 0);
}
