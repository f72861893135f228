//! Ether to the wei: transfers and fees add up to geth's balances, stored balances are geth's own,
//! call frames match its traces, and what was not requested in time is listed.

use crate::real_geth::{published, undisturbed};
use crate::rig::forks::Forks;
use crate::rig::geth::{Archive, Block, Plan};
use crate::rig::mixed::mixed_block;
use crate::rig::process::until;
use crate::rig::transaction::{Authorization, sender};
use crate::rig::{Geth, Kind, Published, Spyhop, Transaction, contracts};
use ethers::types::{Address, U256};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The tables that depend on the node's state, and their order.
const STATE_TABLES: [(&str, &str); 3] = [
    ("native_transfers", "block_number, transfer_index"),
    ("traces", "block_number, transaction_index, trace_address"),
    ("balances", "block_number, asset, address"),
];

/// Code for a call of some kind: two bytes of address, one of value, no data; the outcome is
/// dropped.
fn call(opcode: u8, to: u64, value: Option<u8>) -> Vec<u8> {
    let [high, low] = u16::try_from(to).unwrap().to_be_bytes();
    let value = value.map_or(Vec::new(), |value| vec![0x60, value]);
    [&[0x60, 0, 0x60, 0, 0x60, 0, 0x60, 0], &value[..], &[0x61, high, low, 0x5a, opcode, 0x50]]
        .concat()
}

const CALL: u8 = 0xf1;
const CALLCODE: u8 = 0xf2;
const DELEGATECALL: u8 = 0xf4;
const STATICCALL: u8 = 0xfa;

/// Code that creates a contract of two bytes of code with 5 wei, and leaves its address on the
/// stack.
fn create_tiny(code: [u8; 2]) -> Vec<u8> {
    [&[0x61], &code[..], &[0x60, 0, 0x52, 0x60, 2, 0x60, 0x1e, 0x60, 5, 0xf0]].concat()
}

/// Moves ether in every way, on top of a mixed block.
pub fn busy_block(number: u64) -> Plan {
    let mut plan = mixed_block(number);
    let at = contracts::address;
    let program = |code: Vec<u8>| Transaction { data: code, ..Transaction::create(13, &[]) };
    let relay = |to: u64, data: &[u8]| contracts::relay(at(to), data);
    // Through ten relays; the last one gets the ether, or reverts.
    let deep = |bottom: u64, depth: usize| {
        (1..depth).fold(relay(bottom, &[]), |data, _| relay(contracts::RELAY, &data))
    };
    // The initial ones are gone after the first block, until Cancun lets them stay.
    let (end, end_for_itself) = match Forks::active(Forks::ALL.cancun, number) {
        true => (contracts::LATE_SELF_DESTRUCT, contracts::LATE_SELF_DESTRUCT_TO_SELF),
        false => (contracts::SELF_DESTRUCT, contracts::SELF_DESTRUCT_TO_SELF),
    };
    let send =
        |to: u64, data: Vec<u8>, value: u64| Transaction::call(14, at(to), data).value(value);
    plan.transactions.extend([
        send(contracts::RELAY, deep(0x5151, 10), 1_000 + number),
        send(contracts::RELAY, deep(contracts::REVERTING, 10), 2_000),
        // Value sent by the relay below returns when the one above reverts.
        send(contracts::RELAY, relay(contracts::RELAY_REVERTING, &relay(0x5252, &[])), 3_000),
        send(contracts::RELAY_REVERTING, relay(0x5353, &[]), 4_000),
        send(contracts::RELAY, deep(end, 2), 5_000),
        send(contracts::RELAY, deep(end_for_itself, 2), 6_000),
        // It selfdestructs during creation, for its creator and for itself.
        send(contracts::FACTORY, vec![0x33, 0xff], 7_000),
        send(contracts::FACTORY, vec![0x30, 0xff], 8_000),
        program(
            [
                call(CALL, 0x5454, Some(1)),
                call(CALLCODE, contracts::TOKEN, Some(2)),
                call(DELEGATECALL, contracts::TOKEN, None),
                call(STATICCALL, contracts::TOKEN, None),
                call(CALL, contracts::REVERTING, Some(3)),
                // More than it has.
                call(CALL, 0x5454, Some(255)),
                // To itself, which changes nothing: it has no code yet.
                [&[0x60, 0, 0x60, 0, 0x60, 0, 0x60, 0, 0x60, 4, 0x30, 0x5a, CALL, 0x50][..]]
                    .concat(),
                // One that selfdestructs at once and then receives 3 wei, which are destroyed with
                // it.
                create_tiny([0x33, 0xff]),
                vec![0x60, 0, 0x60, 0, 0x60, 0, 0x60, 0, 0x60, 3, 0x85, 0x5a, CALL, 0x50],
                // One that fails.
                create_tiny([0xfe, 0xfe]),
                vec![0x00],
            ]
            .concat(),
        )
        .value(100),
        // All of it reverted.
        program([call(CALL, 0x5555, Some(9)), create_tiny([0x33, 0xff]), vec![0xfe]].concat())
            .value(100),
        Transaction::transfer(15, sender(15), 12_345),
    ]);
    if Forks::active(Forks::ALL.prague, number) {
        let authorization = Authorization {
            authority: 12,
            chain_id: U256::zero(),
            delegate: at(contracts::RELAY),
            nonce: number - Forks::ALL.prague,
        };
        // An account that relays ether through its delegate.
        plan.transactions.push(
            Transaction::call(14, sender(12), relay(0x5656, &[]))
                .value(11)
                .kind(Kind::SetCode(vec![authorization])),
        );
    }
    // Sender 12 must not send by itself: its nonces are those of the authorizations.
    plan.transactions
        .iter_mut()
        .filter(|transaction| transaction.from == 12)
        .for_each(|transaction| transaction.from = 5);
    plan
}

fn amount(text: &Option<String>) -> U256 {
    text.as_deref().map_or(U256::zero(), |digits| U256::from_dec_str(digits).unwrap())
}

/// Each account's balance from our rows: received less sent, less its fees, plus the tips of its
/// blocks.
pub fn ledger(found: &Published) -> BTreeMap<String, U256> {
    let mut ledger: BTreeMap<String, U256> = BTreeMap::new();
    let mut add = |address: &Option<String>, value: U256, sign: bool| {
        let Some(address) = address else { return };
        let balance = ledger.entry(address.clone()).or_default();
        // Temporarily below zero, because this is not the chain's order.
        *balance =
            if sign { balance.overflowing_add(value).0 } else { balance.overflowing_sub(value).0 };
    };
    for row in found.rows(
        "SELECT from_address, to_address, coalesce(value::VARCHAR, value_text) AS value
        FROM native_transfers",
    ) {
        let value = amount(&row["value"]);
        assert!(!value.is_zero(), "{row:?} moves nothing");
        add(&row["from_address"], value, false);
        add(&row["to_address"], value, true);
    }
    for row in found.rows(
        "SELECT from_address, miner, coalesce(fee_burnt::VARCHAR, fee_burnt_text) AS burnt,
            coalesce(fee_tip::VARCHAR, fee_tip_text) AS tip,
            coalesce(fee_blob::VARCHAR, fee_blob_text) AS blob
         FROM transactions JOIN blocks ON number = block_number",
    ) {
        let tip = amount(&row["tip"]);
        add(&row["from_address"], tip + amount(&row["burnt"]) + amount(&row["blob"]), false);
        add(&row["miner"], tip, true);
    }
    ledger
}

/// geth's own balance.
fn balance(geth: &Geth, address: &str, at: Value) -> U256 {
    serde_json::from_value(geth.call("eth_getBalance", json!([address, at]))).unwrap()
}

/// Checks that transfers and fees add up to geth's balance of every account at the head.
#[track_caller]
fn check_ledger(geth: &Geth, found: &Published) {
    let ledger = ledger(found);
    for (address, sum) in &ledger {
        assert_eq!(
            *sum,
            balance(geth, address, json!("latest")),
            "{address} by its movements and fees"
        );
    }
    assert!(ledger.len() > 40, "{} accounts", ledger.len());
}

/// Checks every balance against geth's at its own block, and that the newest of each touched
/// account is that of the head.
#[track_caller]
fn check_balances(geth: &Geth, found: &Published) {
    let rows = found.rows(
        "SELECT asset, address, hash, coalesce(balance::VARCHAR, balance_text) AS balance
         FROM balances JOIN blocks ON number = block_number ORDER BY block_number",
    );
    let mut newest = BTreeMap::new();
    for row in &rows {
        let address = row["address"].as_deref().unwrap();
        assert_eq!(row["asset"].as_deref(), Some("ETH"));
        assert_eq!(
            amount(&row["balance"]),
            balance(geth, address, json!({"blockHash": row["hash"]})),
            "{row:?}"
        );
        newest.insert(address, amount(&row["balance"]));
    }
    for address in ledger(found).keys() {
        assert_eq!(
            newest[address.as_str()],
            balance(geth, address, json!("latest")),
            "{address} at the head"
        );
    }
}

/// geth's frames of a block, flat: path, type, from, to, value, error, status.
fn frames(geth: &Geth, hash: &str) -> Vec<Vec<String>> {
    fn flatten(frame: &Value, path: &str, above: bool, rows: &mut Vec<Vec<String>>) {
        let text = |key: &str| frame[key].as_str().unwrap_or("-").to_owned();
        let status = above && frame["error"].is_null();
        let value = frame["value"]
            .as_str()
            .map_or("-".to_owned(), |value| U256::from_str_radix(value, 16).unwrap().to_string());
        let status_text = u8::from(status).to_string();
        rows.push(vec![
            path.to_owned(),
            text("type").to_lowercase(),
            text("from"),
            text("to"),
            value,
            text("error"),
            status_text,
        ]);
        for (index, call) in frame["calls"].as_array().into_iter().flatten().enumerate() {
            let path = if path.is_empty() { index.to_string() } else { format!("{path},{index}") };
            flatten(call, &path, status, rows);
        }
    }
    let traces = geth.call("debug_traceBlockByHash", json!([hash, {"tracer": "callTracer"}]));
    let mut rows = Vec::new();
    traces
        .as_array()
        .unwrap()
        .iter()
        .for_each(|trace| flatten(&trace["result"], "", true, &mut rows));
    rows
}

/// Checks the traces of these blocks against geth's.
#[track_caller]
fn check_traces(geth: &Geth, found: &Published, blocks: &[Block]) {
    for block in blocks {
        let hash = format!("{:?}", block.hash);
        let rows = found.rows(&format!(
            "SELECT trace_address AS a,
                CASE WHEN trace_type = 'selfdestruct' THEN trace_type
                    ELSE coalesce(call_type, trace_type) END AS b,
                from_address AS c, coalesce(to_address, '-') AS d,
                coalesce(value::VARCHAR, value_text, '-') AS e,
                coalesce(error, '-') AS f, status AS g
             FROM traces WHERE block_hash = '{hash}'"
        ));
        let mut rows: Vec<Vec<String>> = rows
            .into_iter()
            .map(|row| row.into_values().map(|value| value.unwrap()).collect())
            .collect();
        let mut expected = frames(geth, &hash);
        rows.sort();
        expected.sort();
        assert_eq!(rows, expected, "traces of block {}", block.number);
    }
}

/// The coverage of a table, in one line.
pub fn coverage(found: &Published, table: &str) -> String {
    let sql = format!(
        "SELECT string_agg(concat(first_block, '-', last_block, ' ', status, ' ', reason), ' ; '
            ORDER BY first_block)
         FROM coverage WHERE table_name = '{table}'"
    );
    found.value(&sql).unwrap_or_default()
}

/// Row count and digest of the tables that depend on the state.
fn digests(data: &Path) -> BTreeMap<&'static str, String> {
    let found = Published::open(data);
    let digest = |(table, order): (&'static str, &str)| {
        let sql = format!(
            "SELECT count(*) || ' rows, ' || coalesce(md5(string_agg(text, chr(10))), '-') FROM \
             (SELECT t::VARCHAR AS text FROM {table} AS t ORDER BY {order})"
        );
        (table, found.value(&sql).unwrap())
    };
    STATE_TABLES.into_iter().map(digest).collect()
}

#[test]
fn movements_fees_and_balances_equal_geths_to_the_wei() {
    let geth = Geth::start(Forks::ALL);
    let data = geth.data("data");
    let mut blocks: Vec<Block> = (1..=9).map(|number| geth.block(&busy_block(number))).collect();
    let mut watch =
        Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--tables", "+traces"]).spawn();
    published(&mut watch, &data, geth.head());
    // A branch that loses.
    for number in 10..=14 {
        geth.block(&Plan { extra: vec![1], ..busy_block(number) });
    }
    published(&mut watch, &data, geth.head());
    geth.set_head(blocks[8]);
    blocks.extend((10..=40).map(|number| geth.block(&busy_block(number))));
    published(&mut watch, &data, geth.head());
    watch.stop();

    let found = Published::open(&data);
    assert_eq!(found.number("SELECT count(*) FROM reorgs"), 1);
    for (table, _) in STATE_TABLES {
        assert_eq!(coverage(&found, table), "0-40 held ", "{table}");
    }
    check_ledger(&geth, &found);
    check_balances(&geth, &found);
    check_traces(&geth, &found, &blocks);
    let disorder = "SELECT count(*)
        FROM (SELECT transfer_index,
                row_number() OVER (PARTITION BY block_number ORDER BY transfer_index) - 1 AS place
            FROM native_transfers)
        WHERE transfer_index <> place";
    assert_eq!(found.number(disorder), 0);

    // The chain contains what is tested.
    for condition in [
        "kind = 'genesis'",
        "kind = 'transaction' AND trace_address = ''",
        "kind = 'transaction' AND from_address = to_address",
        "kind = 'withdrawal'",
        "kind = 'call' AND len(trace_address) > 17",
        "kind = 'create'",
        "kind = 'selfdestruct' AND to_address IS NOT NULL",
        // Destroyed: by a selfdestruct to itself, and by arriving after a selfdestruct.
        "kind = 'selfdestruct' AND to_address IS NULL AND value > 5000",
        "kind = 'selfdestruct' AND to_address IS NULL AND trace_address IS NULL AND value = 3",
    ] {
        assert_ne!(
            found.number(&format!("SELECT count(*) FROM native_transfers WHERE {condition}")),
            0,
            "{condition}"
        );
    }
    for (condition, moved) in
        [("IN ('0x5252', '0x5353', '0x5555')", 0), ("= '0x5151'", 40), ("= '0x5656'", 29)]
    {
        let sql = format!(
            "SELECT count(*)
            FROM native_transfers
            WHERE replace(to_address, repeat('0', 36), '') {condition}"
        );
        assert_eq!(found.number(&sql), moved, "{condition}");
    }
    for condition in [
        "status = 0 AND error IS NULL",
        "call_type = 'callcode' AND value > 0",
        "call_type = 'delegatecall'",
    ] {
        assert_ne!(
            found.number(&format!("SELECT count(*) FROM traces WHERE {condition}")),
            0,
            "{condition}"
        );
    }

    // From Amsterdam on the blocks alone show the same, except for transfers of an account to
    // itself.
    let alone = geth.data("alone");
    Spyhop::watch(&geth.socket(), &alone)
        .args(&["--from", "0", "--once", "--traces", "off"])
        .succeed();
    let alone = Published::open(&alone);
    let reason = "traces are off";
    assert_eq!(
        coverage(&alone, "native_transfers"),
        format!("0-0 held  ; 1-27 partial {reason} ; 28-40 held ")
    );
    let moved = "SELECT block_number, transaction_index, from_address, to_address, value,
            count(*) AS times
        FROM native_transfers
        WHERE block_number >= 28
            AND (kind = 'transaction' OR from_address IS DISTINCT FROM to_address)
        GROUP BY ALL
        ORDER BY ALL";
    assert_eq!(alone.rows(moved), found.rows(moved));
}

/// The coverage of a table: first block, last block, status, reason.
fn told(found: &Published, table: &str) -> Vec<(u64, u64, String, String)> {
    let rows = found.rows(&format!(
        "SELECT first_block, last_block, status, coalesce(reason, '') AS reason FROM coverage
         WHERE table_name = '{table}' ORDER BY first_block"
    ));
    let field = |row: &crate::rig::published::Row, name: &str| row[name].clone().unwrap();
    rows.iter()
        .map(|row| {
            let number = |name| field(row, name).parse::<u64>().unwrap();
            (
                number("first_block"),
                number("last_block"),
                field(row, "status"),
                field(row, "reason"),
            )
        })
        .collect()
}

#[test]
fn ether_that_may_have_moved_unseen_is_in_no_ranking() {
    let geth = Geth::start_with(Forks::OSAKA, Archive(true));
    let rich = Address::from_low_u64_be(0x5151);
    let through = |value: u64| {
        let data = contracts::relay(rich, &[]);
        Transaction::call(14, contracts::address(contracts::RELAY), data).value(value)
    };
    let block = |transactions| geth.block(&Plan { transactions, ..Plan::default() });
    block(vec![Transaction::transfer(3, rich, 5)]);
    block(vec![through(900)]);
    block(vec![]);
    let address = format!("{rich:?}");
    let told = |found: &Published| {
        let sql = format!(
            "SELECT max(balance) FROM whales WHERE address = '{address}' AND asset = 'ETH'"
        );
        (
            found.value(&sql),
            found.value("SELECT since_block FROM whales_coverage WHERE asset = 'ETH'"),
        )
    };
    let number = |number: u64| Some(number.to_string());
    for (traces, state, expected) in [
        ("off", "0-0 held  ; 1-2 partial traces are off ; 3-3 held ", (None, number(3))),
        ("all", "0-3 held ", (number(905), number(0))),
    ] {
        let data = geth.data(traces);
        Spyhop::watch(&geth.socket(), &data)
            .args(&["--from", "0", "--once", "--traces", traces])
            .succeed();
        let found = Published::open(&data);
        for table in ["native_transfers", "balances", "address_flows", "large_transfers"] {
            assert_eq!(coverage(&found, table), state, "{table}");
        }
        assert_eq!(told(&found), expected, "--traces {traces}");
    }
    // It reappears when its balance is reported again.
    block(vec![Transaction::transfer(3, rich, 95)]);
    block(vec![]);
    let data = geth.data("off");
    Spyhop::watch(&geth.socket(), &data)
        .args(&["--from", "0", "--once", "--traces", "off"])
        .succeed();
    assert_eq!(told(&Published::open(&data)), (number(1_000), number(5)));
}

#[test]
fn a_trace_that_would_be_huge_is_not_requested_and_hides_no_transfer() {
    let geth = Geth::start(Forks::OSAKA);
    // Loops of calls that each pass 128 KB of the same memory, nothing, 2 MB, and 128 KB to a
    // precompile; as long as the gas lasts. In between the second hashes 4 KB: it has few frames
    // for much gas.
    let hash = [0x61, 0x10, 0, 0x60, 0, 0x20, 0x50];
    let (nobody, precompile) = ([0x61, 0x70, 0x77, 0x60, 0], [0x61, 0, 0x06, 0x60, 200]);
    let [large, small, endless, uncounted] = [
        ([0x62, 0x02, 0, 0], &[][..], nobody),
        ([0x62, 0, 0, 0], &hash, nobody),
        ([0x62, 0x20, 0, 0], &[], nobody),
        ([0x62, 0x02, 0, 0], &[], precompile),
    ]
    .map(|(size, before, to_and_gas)| {
        let call =
            [&[0x60, 0, 0x60, 0][..], &size, &[0x60, 0, 0x60, 0], &to_and_gas, &[CALL, 0x50]];
        [&[0x5b], before, &call.concat()].concat()
    });
    // Until less than this much gas is left: GAS, PUSH2, LT, PUSH1 0, JUMPI, STOP.
    let until_spent =
        |body: Vec<u8>| [&body[..], &[0x5a, 0x61, 0xc0, 0, 0x10, 0x60, 0, 0x57, 0x00]].concat();
    let create = |code: Vec<u8>| Transaction::create(13, &until_spent(code));
    geth.block(&Plan {
        transactions: vec![create(large), create(small), create(endless), create(uncounted)],
        ..Plan::default()
    });
    let run = |nonce: u64, gas: u64| {
        let to = ethers::utils::get_contract_address(sender(13), nonce);
        Transaction { gas, ..Transaction::call(13, to, Vec::new()) }
    };
    let honest = |to: u64, value: u64| {
        let data = contracts::relay(Address::from_low_u64_be(to), &[]);
        Transaction::call(14, contracts::address(contracts::RELAY), data).value(value)
    };
    let data = [&create_tiny([0x33, 0xff])[..], &[0x00]].concat();
    let creating = Transaction { data, ..Transaction::create(3, &[]) }.value(5);
    let plans = [
        vec![honest(0x5151, 1_000), run(0, 600_000), honest(0x5252, 2_000)],
        vec![honest(0x5151, 3_000), run(1, 4_000_000), creating],
        vec![honest(0x5151, 4_000), Transaction::transfer(3, Address::from_low_u64_be(0x5252), 1)],
        // No tracer finishes that in time.
        vec![honest(0x5151, 6_000), run(2, 14_000_000)],
    ];
    for transactions in plans {
        geth.block(&Plan { transactions, ..Plan::default() });
    }
    let before = geth.peak_memory();
    let data = geth.data("data");
    let arguments = ["--from", "0", "--once", "--tables", "+traces"];
    Spyhop::watch(&geth.socket(), &data).args(&arguments).succeed();
    let taken = geth.peak_memory() - before;
    assert!(taken < 400 << 20, "{taken} bytes");
    let found = Published::open(&data);
    for table in ["native_transfers", "balances"] {
        assert_eq!(coverage(&found, table), "0-5 held ", "{table}");
    }
    let state = "0-1 held  ; 2-2 missing the trace is too large ; \
                 3-4 held  ; 5-5 missing the trace is too large";
    assert_eq!(coverage(&found, "traces"), state);
    let moved = found.rows(
        "SELECT block_number, kind, trace_address, value FROM native_transfers
         WHERE kind IN ('call', 'create') ORDER BY block_number, transfer_index",
    );
    let field = |row: &crate::rig::published::Row, name: &str| row[name].clone().unwrap();
    let moved: Vec<_> = moved
        .iter()
        .map(|row| {
            ["block_number", "kind", "trace_address", "value"]
                .map(|name| field(row, name))
                .join(" ")
        })
        .collect();
    assert_eq!(
        moved,
        [
            "2 call 0 1000",
            "2 call 0 2000",
            "3 call 0 3000",
            "3 create 0 5",
            "4 call 0 4000",
            "5 call 0 6000"
        ]
    );
    for (address, sum) in ledger(&found) {
        assert_eq!(sum, balance(&geth, &address, json!("latest")), "{address}");
    }
    check_balances(&geth, &found);
    Spyhop::verify(&data).succeed();

    // geth's count of inputs omits those of precompiles.
    let transactions = vec![honest(0x5151, 7_000), run(3, 980_000)];
    geth.block(&Plan { transactions, ..Plan::default() });
    Spyhop::watch(&geth.socket(), &data).args(&arguments).succeed();
    let taken = geth.peak_memory() - before;
    assert!(taken < 1 << 30, "{taken} bytes");
    let found = Published::open(&data);
    assert_eq!(coverage(&found, "native_transfers"), "0-6 held ");
    let moved = "SELECT value FROM native_transfers WHERE block_number = 6 AND kind = 'call'";
    assert_eq!(found.value(moved).as_deref(), Some("7000"));
    let state = coverage(&found, "traces");
    assert!(state.starts_with("0-1 held  ; 2-2 missing"), "{state}");
    assert!(state.contains("6 missing"), "{state}");
}

#[test]
fn history_not_requested_in_time_is_partial_and_coverage_says_why() {
    let geth = Geth::start(Forks::OSAKA);
    geth.blocks(330, "base");
    let data = geth.data("data");
    let once = || Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]);
    // Nothing is finalized: everything enters the tail, and a full node has the state of the last
    // 128 blocks.
    once().succeed();
    let found = Published::open(&data);
    let check = |found: &Published, first_known: std::ops::Range<u64>| {
        for (table, status) in [("native_transfers", "partial"), ("balances", "missing")] {
            let rows = told(found, table);
            let [genesis, lost, held] = &rows[..] else { panic!("{table}: {rows:?}") };
            assert_eq!((genesis.0, genesis.1, genesis.2.as_str()), (0, 0, "held"), "{table}");
            assert_eq!((lost.0, lost.2.as_str()), (1, status), "{table}");
            assert!(lost.3.contains("state"), "{table}: {lost:?}");
            assert_eq!((held.1, held.2.as_str(), held.3.as_str()), (330, "held", ""), "{table}");
            assert!(first_known.contains(&held.0), "{table}: {held:?}");
        }
    };
    check(&found, 200..210);
    let before = digests(&data);
    // A transaction's own transfer is still stored.
    assert_eq!(
        found.number("SELECT count(*) FROM native_transfers WHERE kind = 'transaction'"),
        330
    );
    check_ledger(&geth, &found);
    assert_eq!(
        found.number("SELECT count(*) FROM balances WHERE block_number BETWEEN 1 AND 199"),
        0
    );

    // Sealing requests nothing and loses nothing.
    geth.finalize(320);
    once().succeed();
    let found = Published::open(&data);
    check(&found, 200..210);
    assert_eq!(digests(&data), before);
    let manifest = data.join("chain/first=0000000200/last=0000000299/g1/manifest.json");
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    let first_known = told(&found, "balances")[2].0;
    for table in ["native_transfers", "balances"] {
        assert_eq!(manifest["tables"][table]["covered"], json!([[first_known, 299]]), "{table}");
    }
    assert_eq!(manifest["tables"]["logs"]["covered"], json!([[200, 299]]));

    // Built from finalized blocks, without state.
    let data = geth.data("built");
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    let found = Published::open(&data);
    assert_eq!(
        coverage(&found, "native_transfers"),
        "0-0 held  ; 1-299 partial traced at the head only ; 300-330 held "
    );
    assert_eq!(
        coverage(&found, "balances"),
        "0-0 held  ; 1-299 missing asked for at the head only ; 300-330 held "
    );
}

#[test]
fn state_of_the_tail_stays_where_only_a_part_of_a_hundred_was_in_it() {
    let geth = Geth::start_with(Forks::OSAKA, Archive(false));
    let data = geth.data("data");
    let once = || {
        Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once", "--tables", "+traces"])
    };
    geth.blocks(140, "base");
    geth.finalize(99);
    once().succeed();
    let tables = ["native_transfers", "balances", "traces", "address_flows"];
    let digests = || {
        let found = Published::open(&data);
        tables.map(|table| {
            let column = if table == "address_flows" { "first_block" } else { "block_number" };
            found
                .number(&format!("SELECT count(*) FROM {table} WHERE {column} BETWEEN 100 AND 140"))
        })
    };
    let before = digests();
    assert!(before.iter().all(|rows| *rows > 0), "{before:?}");
    // It is away while the 100 blocks are finalized.
    geth.blocks(200, "base");
    geth.finalize(320);
    once().succeed();
    let found = Published::open(&data);
    assert_eq!(found.check_prefix(0), Some(geth.head().number));
    assert_eq!(digests()[..3], before[..3]);
    for table in &tables[..3] {
        let told = told(&found, table);
        let held = told.iter().find(|(first, last, ..)| (*first..=*last).contains(&120)).unwrap();
        assert_eq!((held.0, held.1, &held.2[..]), (100, 140, "held"), "{table}: {told:?}");
    }
    Spyhop::verify(&data).path("--ipc", &geth.socket()).succeed();
}

#[test]
fn untraced_ranges_are_traced_with_traces_all_or_reported_to_need_another_node() {
    for archive in [true, false] {
        let geth = Geth::start_with(Forks::OSAKA, Archive(archive));
        let data = geth.data("data");
        geth.blocks(330, "base");
        geth.finalize(320);
        let once = |data: &std::path::Path, traces: &str| {
            Spyhop::watch(&geth.socket(), data).args(&["--from", "0", "--once", "--traces", traces])
        };
        once(&data, "head").succeed();
        let output = once(&data, "all").run();
        let said = crate::rig::process::stderr_of(&output);
        assert!(output.status.success(), "{said}");
        let found = Published::open(&data);
        if archive {
            let built = geth.data("built");
            once(&built, "all").succeed();
            let built = Published::open(&built);
            for table in ["native_transfers", "balances"] {
                assert_eq!(coverage(&found, table), "0-330 held ", "{table}");
                assert_eq!(coverage(&built, table), "0-330 held ", "{table}");
                // Accounts known from history only were requested with blocks of the tail.
                let count = format!("SELECT count(*) FROM {table} WHERE block_number < 300");
                assert_eq!(found.number(&count), built.number(&count), "{table}");
            }
            assert!(data.join("chain/first=0000000100/last=0000000199/g2").exists());
        } else {
            assert!(said.contains("sealed blocks were not traced"), "{said}");
            let named = coverage(&found, "balances");
            assert!(
                named.contains("asked for at the head only; this node serves state from block"),
                "{named}"
            );
            assert!(named.contains("`spyhop watch --traces all"), "{named}");
        }
        Spyhop::verify(&data).path("--ipc", &geth.socket()).succeed();
    }
}

#[test]
fn any_chunking_beside_an_archive_gives_equal_movements_and_balances() {
    let geth = Geth::start_with(Forks::ALL, Archive(true));
    let data = geth.data("data");
    let arguments = ["--from", "0", "--traces", "all", "--tables", "+traces"];
    let start = || Spyhop::watch(&geth.socket(), &data).args(&arguments);
    let grow = |count: u64, extra: u8| {
        for _ in 0..count {
            geth.block(&Plan { extra: vec![extra], ..busy_block(geth.head().number + 1) });
        }
    };
    grow(12, 0);
    start().args(&["--once"]).succeed();
    let fork = geth.head();
    grow(9, 1);
    let mut watch = start().spawn();
    published(&mut watch, &data, geth.head());
    geth.set_head(fork);
    grow(20, 2);
    // Killed while it stores the other branch.
    watch.wait_for(&["enter", "phase=tail"]);
    watch.kill();
    start().args(&["--once"]).succeed();
    geth.blocks(80, "plain");
    geth.finalize(105);
    let mut watch = start().spawn();
    until(&mut watch, "blocks 0 to 99 sealed", || {
        data.join("chain/first=0000000000").is_dir().then_some(())
    });
    grow(5, 4);
    published(&mut watch, &data, geth.head());
    watch.stop();

    let fresh = geth.data("fresh");
    Spyhop::watch(&geth.socket(), &fresh).args(&arguments).args(&["--once"]).succeed();
    assert_eq!(digests(&data), digests(&fresh));
    for data in [&data, &fresh] {
        let found = Published::open(data);
        for (table, _) in STATE_TABLES {
            assert_eq!(coverage(&found, table), "0-117 held ", "{table}");
        }
    }
    let found = Published::open(&data);
    check_ledger(&geth, &found);
    check_balances(&geth, &found);
    assert_eq!(found.digests(), undisturbed(&geth, "undisturbed"));
}
