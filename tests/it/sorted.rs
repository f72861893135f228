//! Tables with a key of their own, larger than memory: written, merged, and compared with one
//! query.

use crate::rig::random::Random;
use alloy_primitives::B256;
use arrow::array::{
    ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use spyhop::rows::{Part, Selection, address_flows};
use spyhop::stop::{Stop, Stopped};
use spyhop::store::{BlockLink, Identity, RangeWriter, Store, next_merge};
use std::sync::Arc;

/// Rows of one block: a range has more than a hundred thousand, which is too many for memory.
const ROWS: usize = 1_500;

/// The largest possible amount.
const MAX: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";

/// Flows of a block: few assets, many addresses, amounts whose sums exceed 256 bits.
fn batch(random: &mut Random, block: u64) -> RecordBatch {
    let hex = |number: u64| format!("0x{number:040x}");
    let mut rows: Vec<_> = (0..ROWS)
        .map(|_| {
            let asset = match random.within(0..=3) {
                0 => "ETH".to_owned(),
                asset => hex(0xa55e7 + asset),
            };
            (asset, hex(random.within(0..=100_000)))
        })
        .collect();
    rows.sort();
    rows.dedup();
    let count = rows.len();
    let huge: Vec<bool> = (0..count).map(|_| random.within(0..=9) == 0).collect();
    let amounts = |random: &mut Random| -> ArrayRef {
        let values =
            huge.iter().map(|huge| (!huge).then(|| i128::from(random.next()) * 1_000_000_007));
        Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(38, 0).unwrap())
    };
    let texts = || -> ArrayRef {
        Arc::new(huge.iter().map(|huge| huge.then_some(MAX)).collect::<StringArray>())
    };
    let days = (0..count).map(|_| block as i64 / 500 * 86_400_000_000);
    let numbers =
        |number: u64| -> ArrayRef { Arc::new(Int64Array::from(vec![number as i64; count])) };
    let columns = vec![
        Arc::new(rows.iter().map(|(asset, _)| Some(asset)).collect::<StringArray>()) as ArrayRef,
        Arc::new(rows.iter().map(|(_, address)| Some(address)).collect::<StringArray>()),
        Arc::new(TimestampMicrosecondArray::from_iter_values(days)),
        amounts(random),
        texts(),
        amounts(random),
        texts(),
        numbers(1),
        numbers(2),
        numbers(block),
        numbers(block),
    ];
    RecordBatch::try_new(address_flows::TABLE.schema(), columns).unwrap()
}

#[test]
fn flows_of_a_merged_range_are_the_sums_of_its_parts() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("data")).unwrap();
    let tables = Selection::parse(["address_flows"]).unwrap();
    let identity = Identity { chain_id: 1.into(), genesis_hash: B256::ZERO };
    let duckdb = duckdb::Connection::open_in_memory().unwrap();
    duckdb
        .execute_batch(
            "SET memory_limit = '2GB';
            CREATE TABLE rows (asset VARCHAR, address VARCHAR, day TIMESTAMP, i DECIMAL(38,0),
                it VARCHAR, o DECIMAL(38,0), ot VARCHAR, ci BIGINT, co BIGINT, f BIGINT, l BIGINT)",
        )
        .unwrap();
    let mut random = Random::new("sorted");
    let hash = |number: u64| B256::from(alloy_primitives::U256::from(number + 1));
    for range in 0..10 {
        let mut writer =
            RangeWriter::create(&store, identity, range * 100, range * 100 + 99, tables).unwrap();
        for number in range * 100..range * 100 + 100 {
            let batch = batch(&mut random, number);
            let mut appender = duckdb.appender("rows").unwrap();
            appender.append_record_batch(batch.clone()).unwrap();
            appender.flush().unwrap();
            let parent_hash = if number == 0 { B256::ZERO } else { hash(number - 1) };
            let link = BlockLink { number, hash: hash(number), parent_hash, timestamp: number };
            writer.push(vec![Part::Rows(batch)], &[link], &[]).unwrap();
        }
        let range = writer.finish().unwrap().commit(&store).unwrap();
        check(
            &duckdb,
            &store.root().join(&range.path),
            &format!("f BETWEEN {} AND {}", range.first, range.last),
        );
    }
    let ranges = store.ranges().unwrap();
    let merge = next_merge(&ranges, tables).unwrap();
    let range = merge.run(&store, &Stop::default()).unwrap();
    assert_eq!((range.first, range.last), (0, 999));
    check(&duckdb, &store.root().join(&range.path), "true");
    // A merge that is stopped leaves nothing.
    let stopped = Stop::default();
    stopped.set();
    assert!(merge.run(&store, &stopped).unwrap_err().is::<Stopped>());
    assert_eq!(std::fs::read_dir(store.temporary()).unwrap().count(), 0);
}

/// Checks that a range's file equals one query over the rows that went in, in order, and that there
/// is nothing else.
fn check(duckdb: &duckdb::Connection, range: &std::path::Path, condition: &str) {
    let file = range.join("address_flows.parquet");
    let names: Vec<_> =
        std::fs::read_dir(range).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let number = |sql: &str| duckdb.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
    let expected = format!(
        "SELECT asset, address, day, sum(coalesce(i::VARCHAR, it)::BIGNUM)::VARCHAR,
            sum(coalesce(o::VARCHAR, ot)::BIGNUM)::VARCHAR,
            sum(ci)::BIGINT, sum(co)::BIGINT, min(f), max(l)
        FROM rows
        WHERE {condition}
        GROUP BY ALL"
    );
    let found = format!(
        "SELECT asset, address, day, coalesce(amount_in::VARCHAR, amount_in_text),
            coalesce(amount_out::VARCHAR, amount_out_text),
            count_in, count_out, first_block, last_block
        FROM '{}'",
        file.display()
    );
    let rows = number(&format!("SELECT count(*) FROM ({found})"));
    assert_eq!(rows, number(&format!("SELECT count(*) FROM ({expected})")));
    assert!(rows > 100_000, "{rows} rows");
    assert_eq!(number(&format!("SELECT count(*) FROM ({expected} EXCEPT ALL {found})")), 0);
    let unsorted = "SELECT count(*)
        FROM (SELECT (asset, address, day)
                <= lag((asset, address, day)) OVER (ORDER BY file_row_number) AS bad
            FROM read_parquet('FILE', file_row_number = true))
        WHERE bad";
    assert_eq!(number(&unsorted.replace("FILE", &file.display().to_string())), 0);
    // Some sums exceed 256 bits.
    let wide = format!(
        "SELECT count(*) FROM '{}' WHERE amount_in_text::BIGNUM > '{MAX}'::BIGNUM",
        file.display()
    );
    assert_ne!(number(&wide), 0);
}
