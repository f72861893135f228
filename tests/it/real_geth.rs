//! Against a real geth: what is stored equals geth's data, whatever happens to the chain, to geth
//! and to spyhop.

use crate::rig::expected::{self, Json};
use crate::rig::mixed::mixed_chain;
use crate::rig::process::{listing, until};
use crate::rig::published::Row;
use crate::rig::random::Random;
use crate::rig::transaction::{SENDERS, sender};
use crate::rig::{
    Block, Forks, Geth, Log, Plan, Published, Running, Spyhop, Transaction, Withdrawal, contracts,
};
use ethers::providers::{Ipc, Middleware, Provider};
use ethers::types::{Address, H256, U256};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `watch --once` from the first block on.
fn once(geth: &Geth, data: &Path) -> Spyhop {
    Spyhop::watch(&geth.socket(), data).args(&["--from", "0", "--once"])
}

/// The chain tables after one undisturbed run over the chain as it is now.
#[track_caller]
pub fn undisturbed(geth: &Geth, name: &str) -> BTreeMap<&'static str, String> {
    let data = geth.data(name);
    once(geth, &data).succeed();
    Published::open(&data).digests()
}

/// Waits until readers see this block as the highest.
#[track_caller]
pub fn published(watch: &mut Running, data: &Path, head: Block) {
    let hash = format!("{:?}", head.hash);
    until(watch, &format!("block {} {hash} in the published file", head.number), || {
        let (number, found) = Published::try_open(data).ok()?.head()?;
        (number == head.number && found == hash).then_some(())
    });
}

#[test]
fn every_field_of_every_block_equals_geths() {
    let geth = mixed_chain();
    let data = geth.data("data");
    once(&geth, &data).succeed();
    let found = Published::open(&data);
    assert_eq!(found.check_prefix(0), Some(130));
    assert!(
        data.join("chain/first=0000000000/last=0000000099").is_dir(),
        "blocks 0 to 99 are final and not sealed"
    );
    let blocks: Vec<_> = (0..=130).map(|number| Json::of(&geth, number)).collect();
    expected::check(&found, &blocks);

    // The chain contains what is tested.
    let types = found.rows(
        "SELECT transaction_type AS kind, count(*) AS n
        FROM transactions
        GROUP BY ALL
        ORDER BY ALL",
    );
    let types: Vec<_> = types.iter().map(|row| row["kind"].as_deref().unwrap()).collect();
    assert_eq!(types, ["0", "1", "2", "3", "4"]);
    for condition in [
        "receipt_status = 0",
        "receipt_contract_address IS NOT NULL",
        "chain_id IS NULL",
        "receipt_blob_gas_price > 1",
        "len(blob_versioned_hashes) = 3",
        "access_list <> '[]'",
    ] {
        assert_ne!(
            found.number(&format!("SELECT count(*) FROM transactions WHERE {condition}")),
            0,
            "{condition}"
        );
    }
    assert_ne!(found.number("SELECT count(*) FROM blocks WHERE slot_number IS NOT NULL"), 0);
    assert_ne!(found.number("SELECT count(*) FROM logs WHERE topic0 IS NULL"), 0);
    // EIP-7708: from Amsterdam on, transfers of ether leave logs. They are not tokens.
    let ether = format!("{:?}", Address::from_slice(&[&[0xff; 19][..], &[0xfe]].concat()));
    assert_ne!(found.number(&format!("SELECT count(*) FROM logs WHERE address = '{ether}'")), 0);
    assert_eq!(found.number("SELECT count(*) FROM token_transfers"), 0);
    // EIP-8037: the sum of the receipts' gas differs from the header's.
    let differ = "SELECT count(*)
        FROM (SELECT sum(receipt_gas_used) AS used, any_value(gas_used) AS header
            FROM transactions
            JOIN blocks ON number = block_number
            GROUP BY number
            HAVING used <> header)";
    assert_ne!(found.number(differ), 0);

    let held = found.rows(
        "SELECT DISTINCT first_block, last_block, status FROM coverage
         WHERE table_name NOT IN ('native_transfers', 'traces', 'balances', 'address_flows',
             'large_transfers', 'tokens')
         ORDER BY ALL",
    );
    let held: Vec<Vec<_>> = held
        .iter()
        .map(|row| row.values().map(|value| value.as_deref().unwrap()).collect())
        .collect();
    assert!(held.iter().all(|row| row.contains(&"held")), "{held:?}");
}

#[test]
fn ethers_sees_the_same_transactions_and_receipts() {
    let geth = mixed_chain();
    let data = geth.data("data");
    once(&geth, &data).succeed();
    let found = Published::open(&data).rows(
        "SELECT *, (SELECT count(*) FROM logs WHERE transaction_hash = t.hash) AS log_count
         FROM transactions AS t
         WHERE transaction_type <= 2
         ORDER BY block_number, transaction_index",
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let expected: Vec<Row> = runtime.block_on(async {
        let client = Provider::new(Ipc::connect(geth.socket()).await.unwrap());
        let mut rows = Vec::new();
        for number in 0..=130 {
            let block = client.get_block_with_txs(number).await.unwrap().unwrap();
            for transaction in block.transactions {
                if transaction.transaction_type.unwrap_or_default().as_u64() > 2 {
                    continue;
                }
                let receipt =
                    client.get_transaction_receipt(transaction.hash).await.unwrap().unwrap();
                rows.push(ethers_row(&transaction, &receipt));
            }
        }
        rows
    });
    assert!(expected.len() > 500, "{} transactions", expected.len());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        for (column, value) in expected {
            assert_eq!(&found[column], value, "{column} of {found:?}");
        }
    }
}

/// A transaction as `ethers` decodes it: it computes hash and sender itself.
fn ethers_row(
    transaction: &ethers::types::Transaction,
    receipt: &ethers::types::TransactionReceipt,
) -> Row {
    let text = |value: &dyn std::fmt::Display| Some(value.to_string());
    Row::from([
        ("hash".into(), Some(format!("{:?}", transaction.hash()))),
        ("from_address".into(), Some(format!("{:?}", transaction.recover_from().unwrap()))),
        ("to_address".into(), transaction.to.map(|to| format!("{to:?}"))),
        ("block_number".into(), text(&transaction.block_number.unwrap())),
        ("transaction_index".into(), text(&transaction.transaction_index.unwrap())),
        ("nonce".into(), text(&transaction.nonce)),
        ("value".into(), text(&transaction.value)),
        ("gas".into(), text(&transaction.gas)),
        ("input".into(), Some(transaction.input.to_string())),
        ("r".into(), Some(format!("{:#x}", transaction.r))),
        ("s".into(), Some(format!("{:#x}", transaction.s))),
        ("v".into(), Some(format!("{:#x}", transaction.v))),
        ("receipt_status".into(), receipt.status.map(|status| status.to_string())),
        ("receipt_gas_used".into(), text(&receipt.gas_used.unwrap())),
        ("receipt_cumulative_gas_used".into(), text(&receipt.cumulative_gas_used)),
        ("receipt_effective_gas_price".into(), text(&receipt.effective_gas_price.unwrap())),
        (
            "receipt_contract_address".into(),
            receipt.contract_address.map(|address| format!("{address:?}")),
        ),
        ("log_count".into(), text(&receipt.logs.len())),
    ])
}

#[test]
fn tokens_of_every_standard_become_transfers() {
    let [alice, bob, carol] = [0xa11ce, 0xb0b, 0xca401].map(Address::from_low_u64_be);
    let [a, b, c] = [alice, bob, carol].map(contracts::number);
    let zero = Address::zero();
    let big = U256::exp10(38);
    let event = contracts::event;
    let several = "TransferBatch(address,address,address,uint256[],uint256[])";
    let batch = |ids: &[U256], values: &[U256]| {
        let mut log = event(several, 3, &[c, a, b]);
        let array = |list: &[U256]| [&[U256::from(list.len())], list].concat();
        let words =
            [vec![U256::from(64), U256::from(96 + 32 * ids.len())], array(ids), array(values)]
                .concat();
        log.data = words.iter().flat_map(|word| contracts::word_of(*word)).collect();
        log
    };
    // The log, the contract it comes from, and its transfers: standard, operator, from, to, value,
    // token id.
    type Expected =
        Vec<(&'static str, Option<Address>, Address, Address, Option<U256>, Option<U256>)>;
    let transfer = "Transfer(address,address,uint256)";
    let single = "TransferSingle(address,address,address,uint256,uint256)";
    let cases: Vec<(u64, Log, Expected)> = vec![
        (
            contracts::TOKEN,
            event(transfer, 2, &[a, b, U256::from(5)]),
            vec![("erc20", None, alice, bob, Some(5.into()), None)],
        ),
        (
            contracts::TOKEN,
            event(transfer, 2, &[a, b, U256::zero()]),
            vec![("erc20", None, alice, bob, Some(0.into()), None)],
        ),
        // The largest amount that fits the column, the smallest that does not, the largest
        // possible.
        (
            contracts::TOKEN,
            event(transfer, 2, &[a, b, big - 1]),
            vec![("erc20", None, alice, bob, Some(big - 1), None)],
        ),
        (
            contracts::TOKEN,
            event(transfer, 2, &[a, b, big]),
            vec![("erc20", None, alice, bob, Some(big), None)],
        ),
        (
            contracts::TOKEN,
            event(transfer, 2, &[a, b, U256::MAX]),
            vec![("erc20", None, alice, bob, Some(U256::MAX), None)],
        ),
        (
            contracts::COLLECTION,
            event(transfer, 3, &[a, b, U256::from(7)]),
            vec![("erc721", None, alice, bob, None, Some(7.into()))],
        ),
        (
            contracts::COLLECTION,
            event(transfer, 3, &[a, b, U256::MAX]),
            vec![("erc721", None, alice, bob, None, Some(U256::MAX))],
        ),
        // Before the standards were settled: fewer are indexed, and amounts and ids cannot be
        // distinguished.
        (
            contracts::TOKEN,
            event(transfer, 0, &[a, b, U256::from(9)]),
            vec![("unindexed", None, alice, bob, Some(9.into()), None)],
        ),
        (
            contracts::TOKEN,
            event(transfer, 1, &[a, b, U256::from(9)]),
            vec![("unindexed", None, alice, bob, Some(9.into()), None)],
        ),
        (
            contracts::MULTI_TOKEN,
            event(single, 3, &[c, a, b, U256::MAX, U256::from(3)]),
            vec![("erc1155", Some(carol), alice, bob, Some(3.into()), Some(U256::MAX))],
        ),
        // A batch too may have fewer or no indexed parameters: those in the data then precede the
        // offsets.
        (
            contracts::MULTI_TOKEN,
            event(
                several,
                0,
                &[c, a, b, 160.into(), 224.into(), 1.into(), 5.into(), 1.into(), 50.into()],
            ),
            vec![("erc1155", Some(carol), alice, bob, Some(50.into()), Some(5.into()))],
        ),
        (
            contracts::MULTI_TOKEN,
            event(
                several,
                1,
                &[c, a, b, 128.into(), 192.into(), 1.into(), 5.into(), 1.into(), 50.into()],
            ),
            vec![("erc1155", Some(carol), alice, bob, Some(50.into()), Some(5.into()))],
        ),
        (contracts::MULTI_TOKEN, event(several, 0, &[c, a]), vec![]),
        (
            contracts::MULTI_TOKEN,
            batch(&[1.into(), big], &[2.into(), U256::MAX]),
            vec![
                ("erc1155", Some(carol), alice, bob, Some(2.into()), Some(1.into())),
                ("erc1155", Some(carol), alice, bob, Some(U256::MAX), Some(big)),
            ],
        ),
        (contracts::MULTI_TOKEN, batch(&[], &[]), vec![]),
        // There must be as many ids as amounts.
        (contracts::MULTI_TOKEN, batch(&[1.into(), 2.into()], &[3.into()]), vec![]),
        (
            contracts::WETH,
            event("Deposit(address,uint256)", 1, &[a, U256::from(11)]),
            vec![("weth", None, zero, alice, Some(11.into()), None)],
        ),
        (
            contracts::WETH,
            event("Withdrawal(address,uint256)", 1, &[a, U256::from(12)]),
            vec![("weth", None, alice, zero, Some(12.into()), None)],
        ),
        // The same from another contract wraps nothing.
        (contracts::TOKEN, event("Deposit(address,uint256)", 1, &[a, U256::from(11)]), vec![]),
        (
            contracts::TOKEN,
            event("Approval(address,address,uint256)", 2, &[a, b, U256::from(5)]),
            vec![],
        ),
        // Too few words, too many, and an invalid one.
        (contracts::TOKEN, event(transfer, 2, &[a, b]), vec![]),
        (contracts::TOKEN, event(transfer, 2, &[a, b, c, c]), vec![]),
        (contracts::TOKEN, Log { data: vec![1; 31], ..event(transfer, 2, &[a, b]) }, vec![]),
        (contracts::TOKEN, Log { topics: vec![], data: vec![0; 96] }, vec![]),
    ];
    let geth = Geth::start(Forks::OSAKA);
    // All in one block, and again in a transaction that fails.
    let calls = cases.iter().enumerate().map(|(index, (contract, log, _))| {
        Transaction::logs(index % SENDERS, *contract, std::slice::from_ref(log))
    });
    let logs: Vec<_> = cases.iter().map(|(_, log, _)| log.clone()).collect();
    let reverted = Transaction::logs(0, contracts::REVERTING, &logs);
    geth.block(&Plan { transactions: calls.chain([reverted]).collect(), ..Plan::default() });
    let data = geth.data("data");
    let weth = format!("{:?}", contracts::address(contracts::WETH));
    once(&geth, &data).args(&["--weth", &weth]).succeed();

    let split = |value: Option<U256>| match value.map(|value| value.to_string()) {
        Some(digits) if digits.len() > 38 => (None, Some(digits)),
        digits => (digits, None),
    };
    let mut expected = Vec::new();
    for (log_index, (contract, _, transfers)) in cases.iter().enumerate() {
        for (batch_index, (standard, operator, from, to, value, token_id)) in
            transfers.iter().enumerate()
        {
            let (value, value_text) = split(*value);
            let (token_id, token_id_text) = split(*token_id);
            expected.push(Row::from([
                ("log_index".into(), Some(log_index.to_string())),
                ("batch_index".into(), Some(batch_index.to_string())),
                ("token_address".into(), Some(format!("{:?}", contracts::address(*contract)))),
                ("standard".into(), Some((*standard).into())),
                ("operator_address".into(), operator.map(|operator| format!("{operator:?}"))),
                ("from_address".into(), Some(format!("{from:?}"))),
                ("to_address".into(), Some(format!("{to:?}"))),
                ("value".into(), value),
                ("value_text".into(), value_text),
                ("token_id".into(), token_id),
                ("token_id_text".into(), token_id_text),
            ]));
        }
    }
    let found = Published::open(&data);
    let columns = expected[0].keys().cloned().collect::<Vec<_>>().join(", ");
    let rows = found
        .rows(&format!("SELECT {columns} FROM token_transfers ORDER BY log_index, batch_index"));
    expected::check_rows("token_transfers", &expected, &rows);
    // They are at the positions of their logs.
    let astray = "SELECT count(*)
        FROM token_transfers AS t
        ANTI JOIN logs AS l ON t.block_number = l.block_number AND t.block_hash = l.block_hash
            AND t.block_timestamp = l.block_timestamp AND t.log_index = l.log_index
            AND t.transaction_index = l.transaction_index
            AND t.transaction_hash = l.transaction_hash
            AND t.token_address = l.address";
    assert_eq!(found.number(astray), 0);
}

#[test]
fn reorgs_of_depth_1_3_and_30_leave_the_winning_chain_and_one_row_each() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    geth.blocks(10, "base");
    for (index, depth) in [1, 3, 30].into_iter().enumerate() {
        let fork = geth.head();
        let winning = geth.blocks(depth + 1, &format!("winning {depth}"));
        geth.set_head(fork);
        let losing = geth.blocks(depth, &format!("losing {depth}"));

        let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
        published(&mut watch, &data, losing[losing.len() - 1]);
        // All at once: the node switches from one head to the other, and nobody can see it on the
        // way.
        geth.set_head(winning[winning.len() - 1]);
        published(&mut watch, &data, winning[winning.len() - 1]);
        watch.stop();

        let found = Published::open(&data);
        assert_eq!(
            found.digests(),
            undisturbed(&geth, &format!("undisturbed-{depth}")),
            "depth {depth}"
        );
        let reorgs = found.rows("SELECT * FROM reorgs ORDER BY detected_at, fork_block");
        assert_eq!(reorgs.len(), index + 1, "{reorgs:?}");
        let reorg = &reorgs[index];
        assert_eq!(reorg["fork_block"], Some(fork.number.to_string()));
        assert_eq!(reorg["fork_hash"], Some(format!("{:?}", fork.hash)));
        assert_eq!(reorg["depth"], Some(depth.to_string()));
        let hashes = |blocks: &[Block]| {
            json!(blocks.iter().map(|block| block.hash).collect::<Vec<_>>()).to_string()
        };
        assert_eq!(reorg["old_hashes"], Some(hashes(&losing)));
        let new: Vec<H256> = serde_json::from_str(reorg["new_hashes"].as_deref().unwrap()).unwrap();
        let replacing: Vec<_> = winning.iter().map(|block| block.hash).collect();
        assert!(
            !new.is_empty() && replacing.starts_with(&new),
            "{new:?} are not of the winning chain"
        );
    }
}

#[test]
fn reorg_that_comes_block_by_block_is_followed() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    let base = geth.blocks(10, "base");
    let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    geth.blocks(8, "losing");
    published(&mut watch, &data, geth.head());
    geth.set_head(base[9]);
    for _ in 0..12 {
        let block = geth.blocks(1, "winning")[0];
        // At first the new branch is shorter; what counts is the node's head.
        published(&mut watch, &data, block);
        Published::open(&data).check_prefix(0);
    }
    watch.stop();
    let found = Published::open(&data);
    assert_eq!(found.digests(), undisturbed(&geth, "undisturbed"));
    assert_eq!(found.value("SELECT string_agg(depth, ',') FROM reorgs").as_deref(), Some("8"));
}

#[test]
fn head_going_backward_and_forward_again_is_no_reorganisation() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    let blocks = geth.blocks(30, "base");
    let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    published(&mut watch, &data, blocks[29]);
    geth.set_head(blocks[9]);
    // Its status shows that it has seen the lower head.
    until(&mut watch, "the lower head in the status", || {
        (status(&data)?.to_string().contains("10")).then_some(())
    });
    geth.set_head(blocks[29]);
    let next = geth.blocks(3, "more");
    published(&mut watch, &data, next[2]);
    watch.stop();
    let found = Published::open(&data);
    assert_eq!(found.number("SELECT count(*) FROM reorgs"), 0);
    assert_eq!(found.digests(), undisturbed(&geth, "undisturbed"));
}

fn status(data: &Path) -> Option<serde_json::Value> {
    let output = Spyhop::new("status").path("--data", data).args(&["--json"]).run();
    serde_json::from_slice(&output.stdout).ok()
}

#[test]
fn geth_killed_and_restarted_under_watch_goes_on() {
    let mut geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    // The same blocks again whenever geth has lost them.
    let base = |geth: &Geth| {
        for number in geth.head().number + 1..=150 {
            let transactions =
                vec![Transaction::transfer(0, Address::from_low_u64_be(number), number)];
            geth.block(&Plan { transactions, ..Plan::default() });
        }
        geth.block_of(150)
    };
    let tip = base(&geth);
    geth.finalize(120);
    let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    published(&mut watch, &data, tip);
    for round in 0..2 {
        // As a power cut would end it, and as `docker stop` does.
        if round == 0 {
            geth.kill()
        } else {
            geth.stop()
        }
        geth.restart();
        assert_eq!(base(&geth), tip);
        geth.blocks(5, &format!("round {round}"));
        published(&mut watch, &data, geth.head());
        geth.finalize(130);
    }
    watch.stop();
    let found = Published::open(&data);
    assert_eq!(found.check_prefix(0), Some(160));
    assert_eq!(found.digests(), undisturbed(&geth, "undisturbed"));
}

/// Everything but what a refused start may change: the lock that it tried to take, and its
/// heartbeat.
fn untouched(data: &Path) -> Vec<(PathBuf, String)> {
    let may_change =
        |path: &Path| path.ends_with(".spyhop/lock") || path.ends_with(".spyhop/heartbeat");
    listing(data).into_iter().filter(|(path, _)| !may_change(path)).collect()
}

#[test]
fn another_chain_on_the_same_data_is_refused_and_nothing_is_touched() {
    let ours = Geth::start(Forks::OSAKA);
    let data = ours.data("data");
    ours.blocks(120, "ours");
    ours.finalize(110);
    once(&ours, &data).succeed();
    let before = untouched(&data);

    let other = Geth::start(Forks { salt: 1, ..Forks::OSAKA });
    other.blocks(125, "other");
    other.finalize(120);
    let complaint = once(&other, &data).fail(2);
    assert!(complaint.contains("genesis"), "{complaint}");
    assert_eq!(untouched(&data), before);
    // The right chain is still accepted.
    ours.blocks(1, "more");
    once(&ours, &data).succeed();
    assert_eq!(Published::open(&data).check_prefix(0), Some(121));
}

#[test]
fn chain_that_contradicts_a_sealed_range_is_refused_until_rewind() {
    let ours = Geth::start(Forks::OSAKA);
    let data = ours.data("data");
    ours.blocks(330, "ours");
    ours.finalize(320);
    once(&ours, &data).succeed();
    let before = untouched(&data);

    // The same genesis, and the same blocks up to 150.
    let other = Geth::start(Forks::OSAKA);
    other.blocks(150, "ours");
    other.blocks(200, "other");
    other.finalize(340);
    let complaint = once(&other, &data).fail(2);
    assert!(complaint.contains("rewind"), "{complaint}");
    assert_eq!(untouched(&data), before);

    Spyhop::new("rewind").path("--data", &data).args(&["--to", "150"]).succeed();
    assert!(
        std::fs::read_dir(data.join("quarantine")).unwrap().next().is_some(),
        "nothing in quarantine"
    );
    once(&other, &data).succeed();
    let found = Published::open(&data);
    assert_eq!(found.check_prefix(0), Some(350));
    assert_eq!(found.digests(), undisturbed(&other, "undisturbed"));
}

#[test]
fn sigterm_under_backfill_ends_it_within_5_seconds_with_success() {
    let geth = Geth::start(Forks::OSAKA);
    let transactions: Vec<_> = (0..32)
        .map(|index| Transaction::transfer(index % SENDERS, Address::from_low_u64_be(1), 1))
        .collect();
    for number in 0..420u64 {
        geth.block(&Plan {
            transactions: transactions.clone(),
            miner: number % 2,
            ..Plan::default()
        });
    }
    geth.finalize(410);
    let data = geth.data("data");
    let mut random = Random::new("sigterm_under_backfill");
    let mut longest = Duration::ZERO;
    for _ in 0..6 {
        let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
        watch.wait_for(&["enter", "phase=range"]);
        std::thread::sleep(Duration::from_millis(random.within(0..=40)));
        longest = longest.max(watch.stop());
        if let Ok(published) = Published::try_open(&data) {
            published.check_prefix(0);
        }
    }
    assert!(longest < Duration::from_secs(5), "took {longest:?}");
    once(&geth, &data).succeed();
    assert_eq!(Published::open(&data).digests(), undisturbed(&geth, "undisturbed"));
}

#[test]
fn second_watch_on_the_same_data_is_refused() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    let tip = geth.blocks(5, "base")[4];
    let mut first = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    published(&mut first, &data, tip);
    let complaint = once(&geth, &data).fail(2);
    assert!(complaint.contains("another spyhop"), "{complaint}");
    // The first does not care.
    let next = geth.blocks(1, "more")[0];
    published(&mut first, &data, next);
    first.stop();
    once(&geth, &data).succeed();
}

#[test]
fn sigterm_while_it_waits_for_a_socket_ends_it_with_success() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("geth.ipc");
    let data = directory.path().join("data");
    let mut watch = Spyhop::watch(&socket, &data).spawn();
    watch.wait_for(&["wait"]);
    assert!(watch.stop() < Duration::from_secs(5));
}

#[test]
fn watch_starts_before_geth_does() {
    let mut geth = Geth::start(Forks::OSAKA);
    let tip = geth.blocks(5, "base")[4];
    geth.stop();
    let data = geth.data("data");
    let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["wait"]);
    geth.restart();
    published(&mut watch, &data, tip);
    watch.stop();
}

#[test]
fn from_is_rounded_down_to_a_multiple_of_100() {
    let geth = Geth::start(Forks::OSAKA);
    geth.blocks(330, "base");
    geth.finalize(320);
    for (from, first) in [
        ("0", 0),
        ("250", 200),
        ("200", 200),
        ("-1", 300),
        ("-150", 100),
        ("-5000", 0),
        ("earliest", 0),
    ] {
        let data = geth.data(&format!("from {from}"));
        Spyhop::watch(&geth.socket(), &data).args(&["--from", from, "--once"]).succeed();
        assert_eq!(Published::open(&data).check_prefix(first), Some(330), "--from {from}");
    }
    // Seven days are more than this chain has.
    let data = geth.data("default");
    Spyhop::watch(&geth.socket(), &data).args(&["--once"]).succeed();
    assert_eq!(Published::open(&data).check_prefix(0), Some(330));
    // Older blocks are added to the stored ones.
    let data = geth.data("from 250");
    once(&geth, &data).succeed();
    assert_eq!(Published::open(&data).digests(), undisturbed(&geth, "undisturbed"));
}

#[test]
fn keep_drops_ranges_that_are_older() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // Blocks an hour apart, the last of them now: blocks 0 to 99 are 9 to 13 days old, 100 to 199
    // are 5 to 9.
    let forks = Forks { genesis_time: now - 325 * 3600, block_time: 3600, ..Forks::OSAKA };
    let geth = Geth::start(forks);
    geth.blocks(324, "base");
    geth.finalize(320);
    let data = geth.data("data");
    once(&geth, &data).succeed();
    assert_eq!(Published::open(&data).check_prefix(0), Some(324));
    once(&geth, &data).args(&["--keep", "7"]).succeed();
    let found = Published::open(&data);
    assert_eq!(found.check_prefix(100), Some(324));
    assert_eq!(found.number("SELECT min(first_block) FROM coverage WHERE status = 'held'"), 100);
}

#[test]
fn a_chain_without_finality_is_sealed_by_depth() {
    let geth = Geth::start(Forks::OSAKA);
    geth.blocks(230, "base");
    let data = geth.data("data");
    once(&geth, &data).args(&["--finality-depth", "20"]).succeed();
    let found = Published::open(&data);
    assert_eq!(found.check_prefix(0), Some(230));
    let sealed =
        |first: u64| data.join(format!("chain/first={first:010}/last={:010}", first + 99)).is_dir();
    assert_eq!([sealed(0), sealed(100), sealed(200)], [true, true, false]);
}

#[test]
fn ten_ranges_become_one_and_nothing_else_changes() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    // In pieces, so that no range of 1,000 is built from the node in one go.
    for round in 0..11 {
        geth.blocks(100, &format!("round {round}"));
        geth.finalize(geth.head().number);
        once(&geth, &data).succeed();
    }
    assert!(
        data.join("chain/first=0000000000/last=0000000999").is_dir(),
        "blocks 0 to 999 are not merged"
    );
    let found = Published::open(&data);
    assert_eq!(found.check_prefix(0), Some(1_100));
    assert_eq!(found.digests(), undisturbed(&geth, "undisturbed"));
}

#[test]
fn any_chunking_of_a_chain_gives_equal_tables() {
    let mut random = Random::new("any_chunking_of_a_chain_gives_equal_tables");
    let geth = Geth::start(Forks::OSAKA);
    let volumes: Vec<_> = (0..3).map(|index| geth.data(&format!("volume {index}"))).collect();
    let mut final_block = 0;
    for round in 0..24 {
        grow(&geth, &mut random, round, &mut final_block);
        let data = &volumes[random.within(0..=2) as usize];
        // The later blocks first on one of them.
        let from = if data == &volumes[0] && round < 16 { "-100" } else { "0" };
        match random.within(0..=3) {
            0 => drop(
                Spyhop::watch(&geth.socket(), data).args(&["--from", from, "--once"]).succeed(),
            ),
            1 => {
                let mut watch = Spyhop::watch(&geth.socket(), data).args(&["--from", from]).spawn();
                published(&mut watch, data, geth.head());
                grow(&geth, &mut random, 1_000 + round, &mut final_block);
                published(&mut watch, data, geth.head());
                watch.stop();
            }
            way => {
                let mut watch = Spyhop::watch(&geth.socket(), data).args(&["--from", from]).spawn();
                let lines = random.within(1..=30);
                let _ = (0..lines)
                    .try_for_each(|_| watch.line_within(Duration::from_millis(100)).map(drop));
                if way == 2 {
                    watch.kill();
                } else {
                    watch.stop();
                }
            }
        }
        if let Ok(published) = Published::try_open(data) {
            let first = published.number("SELECT min(number) FROM blocks");
            published.check_prefix(first);
        }
    }
    let expected = undisturbed(&geth, "undisturbed");
    for data in &volumes {
        once(&geth, data).succeed();
        assert_eq!(Published::open(data).digests(), expected, "{}", data.display());
    }
}

/// Extends the chain, with a reorganisation now and then, never of finalized blocks.
fn grow(geth: &Geth, random: &mut Random, round: u64, final_block: &mut u64) {
    let head = geth.head().number;
    let depth = random.within(1..=25).min(head - *final_block);
    if depth > 0 && random.within(0..=2) == 0 {
        geth.set_head(geth.block_of(head - depth));
        geth.blocks(depth + random.within(1..=5), &format!("fork {round}"));
    }
    for block in 0..random.within(1..=12) {
        let transfers = (0..random.within(0..=4)).map(|index| {
            let log =
                contracts::erc20_transfer(sender(0), sender(1), U256::from(round + block + index));
            Transaction::logs(random.clone().within(0..=15) as usize, contracts::TOKEN, &[log])
        });
        let withdrawal =
            Withdrawal { index: round, validator: block, address: 0x77, amount_gwei: 1 };
        let withdrawals = vec![withdrawal; random.clone().within(0..=2) as usize];
        geth.block(&Plan {
            transactions: transfers.collect(),
            withdrawals,
            extra: vec![round as u8],
            miner: block,
        });
    }
    geth.blocks(random.within(1..=20), &format!("round {round}"));
    if random.within(0..=1) == 0 {
        let head = geth.head().number;
        *final_block = (*final_block).max(head - random.within(1..=20).min(head));
        geth.finalize(*final_block);
    }
}

#[test]
fn a_geth_without_blocks_is_waited_out() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["waiting", "first block"]);
    let first = geth.blocks(1, "first")[0];
    published(&mut watch, &data, first);
    watch.stop();
    expected::check(&Published::open(&data), &[Json::of(&geth, 0), Json::of(&geth, 1)]);
}

#[test]
fn another_chains_geth_at_the_same_socket_changes_nothing() {
    let mut geth = Geth::start(Forks::OSAKA);
    let other = Geth::start(Forks { salt: 1, ..Forks::OSAKA });
    geth.blocks(20, "");
    other.blocks(25, "");
    let data = geth.data("data");
    let socket = geth.data("sockets").join("ipc");
    std::os::unix::fs::symlink(geth.socket(), &socket).unwrap();
    let mut watch = Spyhop::watch(&socket, &data).args(&["--from", "0"]).spawn();
    published(&mut watch, &data, geth.head());
    let before = (listing(&data.join("tail")), Published::open(&data).digests());
    geth.stop();
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink(other.socket(), &socket).unwrap();
    let chain = format!("is on chain 1337 with genesis {:?}", other.block_of(0).hash);
    until(&mut watch, "status to name the other chain", || {
        let output = Spyhop::new("status").path("--data", &data).run();
        String::from_utf8_lossy(&output.stderr).contains(&chain).then_some(())
    });
    assert_eq!((listing(&data.join("tail")), Published::open(&data).digests()), before);
    std::fs::remove_file(&socket).unwrap();
    geth.restart();
    std::os::unix::fs::symlink(geth.socket(), &socket).unwrap();
    geth.blocks(1, "");
    published(&mut watch, &data, geth.head());
    watch.stop();
}
