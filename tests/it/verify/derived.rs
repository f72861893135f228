//! Tables that follow from other rows, in ranges whose transactions were traced; and how a repair
//! handles what no node can provide again.

use super::change::{Change, RangeFile};
use super::{RANGE, blake3_of, faults, verify};
use crate::ether::{busy_block, coverage};
use crate::rig::geth::Archive;
use crate::rig::{Forks, Geth, Plan, Published, Spyhop};
use serde_json::json;
use spyhop::rows::{CHAIN_TABLES, Table};
use spyhop::verify::Fault;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Blocks 0 to 110 with ether moving in every way, all traced as they entered the tail; 0 to 99 are
/// then sealed.
fn sealed_with_traces(geth: &Geth, data: &Path, arguments: &[&str]) {
    for number in 1..=40 {
        geth.block(&busy_block(number));
    }
    geth.blocks(70, "plain");
    let once =
        || Spyhop::watch(&geth.socket(), data).args(&["--from", "0", "--once"]).args(arguments);
    once().succeed();
    geth.finalize(105);
    once().succeed();
    assert!(data.join(RANGE).join("g1").is_dir());
}

fn table(name: &str) -> &'static Table {
    CHAIN_TABLES.into_iter().find(|table| table.name == name).unwrap()
}

/// Changes a cell of a table, and returns the faults found.
fn faults_of(
    data: &Path,
    file: &RangeFile,
    column: &str,
    row: usize,
    change: Change,
) -> Vec<Fault> {
    let column = file.table.columns.iter().find(|other| other.name == column).unwrap();
    file.write(column, row, change);
    faults(data, Some((0, 99)), true)
}

#[test]
fn traced_blocks_are_proved_and_traces_compared_with_derived_tables() {
    let geth = Geth::start(Forks::ALL);
    let data = geth.data("data");
    sealed_with_traces(&geth, &data, &[]);
    assert_eq!(coverage(&Published::open(&data), "native_transfers"), "0-110 held ");
    assert_eq!(faults(&data, None, true), []);

    let file = RangeFile::open(&data.join(RANGE).join("g1"), table("native_transfers"));
    let kinds = file.texts("kind");
    let row_of =
        |kind: &str| kinds.iter().position(|other| other.as_deref() == Some(kind)).unwrap();
    let check = |kind: &str, column: &str, change: Change, expected: &[(&str, &str)]| {
        let found = faults_of(&data, &file, column, row_of(kind), change);
        let places: Vec<_> =
            found.iter().map(|fault| (&fault.place[..], &fault.check[..])).collect();
        assert_eq!(places, expected, "{kind} {column} {change:?}: {found:#?}");
    };
    let own = |column| [("native_transfers", column)];
    for column in
        ["block_number", "block_timestamp", "block_hash", "transfer_index", "value", "assumed"]
    {
        check("transaction", column, Change::Other, &own(column));
        check("withdrawal", column, Change::Other, &own(column));
    }
    for kind in ["transaction", "call", "create", "selfdestruct"] {
        for column in ["transfer_index", "transaction_hash", "transaction_index", "assumed", "kind"]
        {
            check(kind, column, Change::Other, &own(column));
        }
        for column in ["value", "kind", "transaction_hash"] {
            check(kind, column, Change::Null, &own(column));
        }
        // A row of no block; a block without its row.
        let found = faults_of(&data, &file, "block_number", row_of(kind), Change::Null);
        assert!(
            !found.is_empty() && found.iter().all(|fault| &fault.place[..] == "native_transfers"),
            "{kind}: {found:#?}"
        );
    }
    for column in ["from_address", "to_address", "trace_address"] {
        check("transaction", column, Change::Other, &own(column));
        check("transaction", column, Change::Null, &own(column));
    }
    // Values that only a trace shows appear in the tables derived from them.
    for (kind, column) in
        [("call", "value"), ("create", "value"), ("call", "from_address"), ("call", "to_address")]
    {
        let found = faults_of(&data, &file, column, row_of(kind), Change::Other);
        let places: Vec<_> = found.iter().map(|fault| &fault.place[..]).collect();
        assert!(places.contains(&"address_flows"), "{kind} {column}: {found:#?}");
        assert!(!places.contains(&"native_transfers"), "{kind} {column}: {found:#?}");
    }
    drop(file);
    assert_eq!(faults(&data, None, true), []);

    // Balances of every block are known, so those in large transfers are proved.
    let file = RangeFile::open(&data.join(RANGE).join("g1"), table("large_transfers"));
    for column in ["from_balance", "to_balance"] {
        let row = (0..file.rows.num_rows()).find(|row| file.rows[column].is_valid(*row)).unwrap();
        let found = faults_of(&data, &file, column, row, Change::Other);
        let places: Vec<_> =
            found.iter().map(|fault| (&fault.place[..], &fault.check[..])).collect();
        assert_eq!(places, [("large_transfers", column)], "{found:#?}");
    }
    drop(file);

    // A row more, a row less.
    let file = RangeFile::open(&data.join(RANGE).join("g1"), table("address_flows"));
    file.without(file.rows.num_rows() / 2);
    let rows = file.rows.num_rows();
    let found: Vec<_> = faults(&data, Some((0, 99)), true).iter().map(Fault::to_string).collect();
    assert_eq!(found, [format!("address_flows: rows: expected {rows}, found {}", rows - 1)]);
    drop(file);
    // Nothing is left over.
    assert_eq!(fs::read_dir(data.join(".spyhop/tmp")).unwrap().count(), 0);
}

#[test]
fn tables_added_later_are_combined_from_stored_data() {
    let geth = Geth::start_with(Forks::ALL, Archive(true));
    for number in 1..=40 {
        geth.block(&busy_block(number));
    }
    geth.blocks(70, "plain");
    geth.finalize(105);
    let run = |data: &Path, tables: &str, traces: &str| {
        let watch = Spyhop::watch(&geth.socket(), data).args(&["--from", "0", "--once"]);
        watch.args(&["--tables", tables, "--traces", traces]).succeed();
    };
    let base = "blocks,transactions,logs,withdrawals,uncles";
    let all = format!("{base},native_transfers,address_flows,large_transfers");
    let summary = |extra: &str| {
        format!("111 blocks in 1 ranges and 11 tail files, rows recomputed: 0 faults\n{extra}")
    };

    // Transfers were traced, a derived table was added later: it lists its gaps, and is proved by
    // the blocks.
    let flows_later = geth.data("later");
    run(&flows_later, &format!("{base},native_transfers"), "all");
    run(&flows_later, &all, "off");
    let found = Published::open(&flows_later);
    assert_eq!(coverage(&found, "native_transfers"), "0-110 held ");
    assert_eq!(
        coverage(&found, "address_flows"),
        "0-0 held  ; 1-27 partial traces are off ; 28-110 held "
    );
    assert_eq!(verify(&flows_later).args(&["--deep"]).succeed(), summary(""));

    // The other way round, not all of it follows from what is stored.
    let movements_later = geth.data("movements");
    run(&movements_later, &format!("{base},address_flows"), "all");
    run(&movements_later, &all, "off");
    let printed = verify(&movements_later).args(&["--deep"]).succeed();
    let left = "100 of the blocks do not determine all of `address_flows`: \
                only its files could be checked\n";
    assert_eq!(printed, summary(left));
}

/// The coverage of every table that depends on the state.
fn told(data: &Path) -> BTreeMap<&'static str, String> {
    let found = Published::open(data);
    let tables = ["native_transfers", "traces", "balances", "address_flows", "large_transfers"];
    let held = |table| coverage(&found, table).replace(" ; 111-260 missing not read yet", "");
    tables.into_iter().map(|table| (table, held(table))).collect()
}

#[test]
fn a_repair_keeps_the_sound_state_that_the_node_serves_no_longer() {
    let geth = Geth::start(Forks::ALL);
    let data = geth.data("data");
    sealed_with_traces(&geth, &data, &["--tables", "+traces"]);
    // A full node: traces of blocks 0 to 99 are no longer available.
    for number in 0..150 {
        geth.block(&Plan { extra: vec![number], ..Plan::default() });
    }
    geth.finalize(105);
    let old = geth.block_of(60).hash;
    let refused = |method: &str, params| {
        assert!(geth.try_call(method, params).is_err(), "{method} is still served")
    };
    refused(
        "eth_getBalance",
        json!([format!("{:?}", crate::rig::transaction::sender(0)), {"blockHash": old}]),
    );
    refused("debug_traceBlockByHash", json!([old, {"tracer": "callTracer"}]));

    let range = |generation: u32| data.join(RANGE).join(format!("g{generation}"));
    let (good, before, digests) =
        (blake3_of(&range(1)), told(&data), Published::open(&data).digests());
    assert!(before.values().all(|told| told == "0-110 held "), "{before:?}");
    let repair =
        || verify(&data).args(&["--deep", "--repair"]).path("--ipc", &geth.socket()).succeed();
    let change = |generation: u32, name: &str, column: &str| {
        let file = RangeFile::open(&range(generation), table(name));
        let column = table(name).columns.iter().find(|other| other.name == column).unwrap();
        file.write(column, file.rows.num_rows() / 2, Change::Other);
        std::mem::forget(file);
    };

    // Wrong rows of chain tables with a valid checksum; a damaged file.
    change(1, "logs", "log_index");
    assert!(repair().contains("logs: block "));
    assert_eq!((blake3_of(&range(2)), told(&data)), (good.clone(), before.clone()));
    fs::write(range(2).join("transactions.parquet"), "no").unwrap();
    assert!(repair().contains("transactions.parquet: BLAKE3"));
    assert_eq!((blake3_of(&range(3)), told(&data)), (good.clone(), before.clone()));
    assert_eq!(Published::open(&data).digests(), digests);

    // A damaged table of the state is lost, and only that.
    let traces = range(3).join("balances.parquet");
    fs::write(&traces, &fs::read(&traces).unwrap()[1..]).unwrap();
    assert!(repair().contains("balances.parquet: BLAKE3"));
    let mut after = told(&data);
    assert_eq!(
        after.remove("balances").unwrap(),
        "0-0 held  ; 1-99 missing asked for at the head only ; 100-110 held "
    );
    let mut rest = before.clone();
    rest.remove("balances");
    assert_eq!(after, rest);
    let mut kept = blake3_of(&range(4));
    assert_ne!(kept.remove("balances"), good.get("balances").cloned());
    assert!(kept.iter().all(|(table, hash)| good[table] == *hash), "{kept:?}");

    // One with wrong rows and a valid checksum is not kept either.
    change(4, "address_flows", "count_in");
    assert!(repair().starts_with("address_flows: row "));
    assert_eq!(told(&data)["native_transfers"], "0-110 held ");
    assert_eq!(told(&data)["large_transfers"], "0-110 held ");
    assert_ne!(told(&data)["address_flows"], "0-110 held ");
    verify(&data).args(&["--deep"]).succeed();
}
