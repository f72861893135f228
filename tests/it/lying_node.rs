//! What a real node cannot be made to do: lie, forget, and send transactions of a later fork.

use crate::fake_geth::{FakeBlock, FakeGeth, Fault, When};
use crate::rig::{
    Forks, Geth, Plan, Running, Spyhop, Transaction, ancient::AncientBlock, process::stderr_of,
    transaction::sender, wait_for,
};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_primitives::{B256, Bloom, Bytes, U256};
use alloy_rlp::Encodable;
use alloy_trie::root::ordered_trie_root_encoded;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A block with these envelopes, and one successful receipt without logs for each.
pub fn block(number: u64, parent_hash: B256, envelopes: &[Vec<u8>], extra: &str) -> FakeBlock {
    let receipts: Vec<Vec<u8>> = envelopes
        .iter()
        .zip(1u64..)
        .map(|(envelope, count)| {
            let mut payload = Vec::new();
            true.encode(&mut payload);
            (21_000 * count).encode(&mut payload);
            Bloom::ZERO.encode(&mut payload);
            Vec::<Bytes>::new().encode(&mut payload);
            let mut receipt = if envelope[0] >= 0xc0 { Vec::new() } else { vec![envelope[0]] };
            alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut receipt);
            receipt.extend(payload);
            receipt
        })
        .collect();
    let header = Header {
        number,
        parent_hash,
        timestamp: 1_700_000_000 + 12 * number,
        transactions_root: ordered_trie_root_encoded(envelopes),
        receipts_root: ordered_trie_root_encoded(&receipts),
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        gas_used: 21_000 * envelopes.len() as u64,
        base_fee_per_gas: Some(7),
        extra_data: Bytes::copy_from_slice(extra.as_bytes()),
        ..Header::default()
    };
    let mut payload = Vec::new();
    header.encode(&mut payload);
    let mut transactions = Vec::new();
    for envelope in envelopes {
        if envelope[0] >= 0xc0 {
            transactions.extend_from_slice(envelope);
        } else {
            Bytes::copy_from_slice(envelope).encode(&mut transactions);
        }
    }
    alloy_rlp::Header { list: true, payload_length: transactions.len() }.encode(&mut payload);
    payload.extend(transactions);
    payload.push(0xc0);
    let mut raw = Vec::new();
    alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut raw);
    raw.extend(payload);
    FakeBlock::from_raw(raw, receipts)
}

/// A fake node with blocks 0 to `head`, all empty.
fn node(directory: &Path, head: u64, finalized: Option<u64>) -> FakeGeth {
    let fake = FakeGeth::start(directory);
    extend(&fake, head, "");
    fake.chain().finalized = finalized;
    fake
}

/// Adds empty blocks up to `head`.
pub fn extend(fake: &FakeGeth, head: u64, extra: &str) {
    let top = fake.chain().head();
    let (mut next, mut parent_hash) = top.map_or((0, B256::ZERO), |top| (top.number + 1, top.hash));
    while next <= head {
        parent_hash = fake.chain().push(block(next, parent_hash, &[], extra));
        next += 1;
    }
}

/// Catches up with a fake node, from block 0 on.
pub fn once(fake: &FakeGeth, data: &Path) -> Spyhop {
    Spyhop::watch(fake.path(), data).args(&["--from", "0", "--once"])
}

/// A query's rows, each as its values with commas between.
fn rows(data: &Path, sql: &str) -> Vec<String> {
    let csv =
        Spyhop::new("sql").path("--data", data).args(&["--format", "csv", "-c", sql]).succeed();
    csv.lines().skip(1).map(str::to_owned).collect()
}

/// Count, least and greatest number of the published blocks.
fn blocks(data: &Path) -> Vec<String> {
    rows(data, "SELECT count(*), min(number), max(number) FROM blocks")
}

fn status(data: &Path) -> String {
    let output = Spyhop::new("status").path("--data", data).run();
    format!(
        "{:?} {}{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        stderr_of(&output)
    )
}

fn until_published(running: &mut Running, data: &Path, sql: &str, expected: &str) {
    let file = data.join("spyhop.duckdb");
    crate::rig::process::until(running, &format!("{sql} = {expected}"), || {
        (file.exists() && rows(data, sql) == [expected]).then_some(())
    });
}

#[test]
fn a_block_that_fails_twice_is_quarantined_and_the_rest_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 350, Some(320));
    // Another block's body under this header: the transactions root does not match.
    let mut lie = block(150, fake.chain().block(149).unwrap().hash, &[vec![0x7e, 1, 2, 3]], "");
    lie.hash = fake.chain().block(150).unwrap().hash;
    let header_of = |raw: &[u8]| {
        let mut rest = raw;
        let list = alloy_rlp::Header::decode(&mut rest).unwrap();
        assert!(list.list);
        let before = rest;
        let header = alloy_rlp::Header::decode(&mut rest).unwrap();
        before[..before.len() - rest.len() + header.payload_length].to_vec()
    };
    let honest = fake.chain().block(150).unwrap().raw_block.clone();
    let body = lie.raw_block[lie.raw_block.len() - 7..].to_vec();
    let mut payload = header_of(&honest);
    payload.extend(body);
    let mut raw = Vec::new();
    alloy_rlp::Header { list: true, payload_length: payload.len() }.encode(&mut raw);
    raw.extend(payload);
    let lie = format!("\"{}\"", const_hex::encode_prefixed(raw));
    fake.fault(
        Fault::Replace(lie.into_bytes()),
        When::method("debug_getRawBlock").block(150).always(),
    );
    fake.fault(
        Fault::Replace(b"[\"0x7ec0\"]".to_vec()),
        When::method("debug_getRawReceipts").block(150).always(),
    );

    let error = once(&fake, &data).fail(1);
    assert!(error.contains("blocks 100 to 199 are not stored"), "{error}");
    assert!(error.contains("block 150"), "{error}");
    assert_eq!(
        rows(
            &data,
            "SELECT first_block, last_block, status FROM coverage WHERE table_name = 'blocks' \
            ORDER BY 1"
        ),
        ["0,99,held", "100,199,failed", "200,350,held"]
    );
    assert_eq!(rows(&data, "SELECT count(*) FROM blocks"), ["251"]);
    let kept: Vec<_> = std::fs::read_dir(data.join("quarantine")).unwrap().collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(status(&data).contains("unhealthy: blocks 100 to 199 failed"), "{}", status(&data));

    // The node is honest again: the hole is filled.
    fake.no_faults();
    once(&fake, &data).succeed();
    assert_eq!(blocks(&data), ["351,0,350"]);
    assert!(status(&data).starts_with("Some(0)"), "{}", status(&data));
}

#[test]
fn a_mismatch_names_block_root_expected_and_found() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 120, Some(100));
    let envelope = vec![0x7e, 1, 2, 3];
    let top = fake.chain().head().unwrap().hash;
    let honest = block(121, top, &[envelope], "");
    fake.chain().push(honest.clone());
    let mut receipt = honest.raw_receipts[0].clone();
    // The status, after the type and a list header of three bytes.
    assert_eq!(receipt[4], 1);
    receipt[4] = 0x80;
    let lie = format!("[\"{}\"]", const_hex::encode_prefixed(&receipt));
    fake.fault(
        Fault::Replace(lie.into_bytes()),
        When::method("debug_getRawReceipts").block(121).always(),
    );
    let error = once(&fake, &data).fail(1);
    let expected = ordered_trie_root_encoded(&honest.raw_receipts);
    let found = ordered_trie_root_encoded(&[receipt]);
    assert!(
        error.contains(&format!("block 121: receipts root: expected {expected}, found {found}")),
        "{error}"
    );
}

#[test]
fn a_block_of_another_chain_is_quarantined_however_whole_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 350, Some(320));
    let stranger = |number| {
        let raw = block(number, B256::repeat_byte(7), &[], "stranger").raw_block;
        Fault::Replace(format!("\"{}\"", const_hex::encode_prefixed(raw)).into_bytes())
    };
    // Between two fetch batches, and inside one.
    for number in [108, 150] {
        fake.fault(stranger(number), When::method("debug_getRawBlock").block(number).always());
        let error = once(&fake, &data).fail(1);
        let parent = fake.chain().block(number - 1).unwrap().hash;
        let expected = format!(
            "block {number}: parent hash: expected {parent}, found {}",
            B256::repeat_byte(7)
        );
        assert!(error.contains(&expected), "{error}");
        assert_eq!(blocks(&data), ["251,0,350"]);
        fake.no_faults();
    }
    assert_eq!(std::fs::read_dir(data.join("quarantine")).unwrap().count(), 2);
    // At the head, where the node confirms that our tip is of its chain.
    once(&fake, &data).succeed();
    extend(&fake, 351, "");
    fake.fault(stranger(351), When::method("debug_getRawBlock").block(351).always());
    let error = once(&fake, &data).fail(1);
    assert!(error.contains("block 351: parent hash: expected"), "{error}");
    fake.no_faults();
    once(&fake, &data).succeed();
    assert_eq!(blocks(&data), ["352,0,351"]);
}

#[test]
fn one_bad_reply_is_fetched_again_and_is_no_failure() {
    for fault in [
        Fault::Truncate,
        Fault::Glue,
        Fault::Duplicate,
        Fault::Null,
        Fault::Error { code: -32000, message: "database is busy".to_owned() },
        Fault::Short,
        Fault::StrayId,
        Fault::Close,
        Fault::EofMidReply,
        Fault::WrongBlock(7),
        Fault::Replace(b"\"0xc0\"".to_vec()),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let fake = node(directory.path(), 130, Some(110));
        for number in [42, 125] {
            fake.fault(fault.clone(), When::method("debug_getRawBlock").block(number));
        }
        let output = once(&fake, &data).run();
        assert!(output.status.success(), "{fault:?}: {}", stderr_of(&output));
        assert_eq!(blocks(&data), ["131,0,130"], "{fault:?}");
    }
}

#[test]
fn null_is_never_an_empty_block() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 250, Some(210));
    fake.fault(Fault::Null, When::method("debug_getRawReceipts").block(42).always());
    let error = once(&fake, &data).fail(1);
    assert!(error.contains("block 42"), "{error}");
    assert_eq!(blocks(&data), ["151,100,250"]);
}

#[test]
fn what_the_nodes_freezer_lacks_or_has_wrong_is_fetched_the_other_way() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 350, Some(320));
    let of_freezer = |number: u64| {
        let block = fake.chain().block(number).unwrap();
        let AncientBlock { header, body, receipts, .. } = AncientBlock::from_raw(&block);
        [header, body, receipts]
    };
    let mut frozen: BTreeMap<_, _> = (0..300).map(|number| (number, of_freezer(number))).collect();
    // One is not there, one has the receipts of a block with a transaction, one is not RLP.
    frozen.remove(&42);
    frozen.get_mut(&43).unwrap()[2] = vec![0xc4, 0xc3, 0x80, 0x80, 0xc0];
    frozen.get_mut(&44).unwrap()[1] = b"none".to_vec();
    fake.chain().frozen = frozen;
    let output = once(&fake, &data).run();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert_eq!(blocks(&data), ["351,0,350"]);
    let said = stderr_of(&output);
    let refetched =
        |block| said.contains(&format!("block failed its check, fetching it again block={block}"));
    assert!(!refetched(42) && refetched(43) && refetched(44), "{said}");
    // Sixteen blocks are fetched at once, and all in the freezer or none.
    let counts = fake.counts();
    assert_eq!(counts.of("debug_getRawReceipts"), 350 - 300 + 1 + 3, "{counts:?}");
}

#[test]
fn pruned_history_is_named_in_coverage() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 350, Some(320));
    fake.chain().pruned_below = 150;
    once(&fake, &data).succeed();
    assert_eq!(
        rows(
            &data,
            "SELECT first_block, last_block, status, reason LIKE 'pruned history%' FROM coverage \
             WHERE table_name = 'logs' ORDER BY 1"
        ),
        ["0,199,missing,true", "200,350,held,"]
    );
}

#[test]
fn an_unknown_transaction_type_is_stored_raw() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 10, None);
    let top = fake.chain().head().unwrap().hash;
    let envelope = vec![0x7e, 0xde, 0xad];
    fake.chain().push(block(11, top, std::slice::from_ref(&envelope), ""));
    let output = once(&fake, &data).run();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert!(stderr_of(&output).contains("unknown transaction type"), "{}", stderr_of(&output));
    assert_eq!(
        rows(
            &data,
            "SELECT transaction_type, raw, from_address, receipt_gas_used FROM transactions"
        ),
        ["126,0x7edead,,21000"]
    );
}

#[test]
fn a_chain_that_contradicts_a_sealed_range_is_refused_and_rewind_helps() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 350, Some(320));
    once(&fake, &data).succeed();
    fake.chain().rewind(220);
    extend(&fake, 360, "other");
    let before = crate::rig::process::listing(&data.join("chain"));
    let error = once(&fake, &data).fail(2);
    assert!(error.contains("contradicts"), "{error}");
    assert!(error.contains("spyhop rewind"), "{error}");
    assert!(error.contains("--to 199"), "{error}");
    assert_eq!(crate::rig::process::listing(&data.join("chain")), before);

    Spyhop::new("rewind").path("--data", &data).args(&["--to", "199"]).succeed();
    once(&fake, &data).succeed();
    assert_eq!(blocks(&data), ["361,0,360"]);
    let hash = format!("{}", fake.chain().block(300).unwrap().hash);
    assert_eq!(rows(&data, "SELECT hash FROM blocks WHERE number = 300"), [hash]);
}

#[test]
fn a_long_tail_is_published_whole_and_sealed_later() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 1_250, None);
    let run = || once(&fake, &data).args(&["--finality-depth", "5000"]);
    run().succeed();
    assert_eq!(blocks(&data), ["1251,0,1250"]);
    assert!(
        data.join("tail/first=0000000000").exists(),
        "the oldest part of a long tail is in chunks"
    );
    assert_eq!(rows(&data, "SELECT count(*) <= 1000 FROM tail.blocks"), ["true"]);
    fake.chain().finalized = Some(1_240);
    run().succeed();
    assert_eq!(blocks(&data), ["1251,0,1250"]);
    assert_eq!(rows(&data, "SELECT min(number) FROM tail.blocks"), ["1200"]);
    assert!(
        data.join("chain/first=0000000000/last=0000000999/g1/manifest.json").exists(),
        "ten hundreds are merged"
    );
}

#[test]
fn a_bad_block_at_the_head_is_waited_out_and_status_says_unhealthy() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 10, None);
    fake.fault(Fault::Null, When::method("debug_getRawBlock").block(11).always());
    let mut running = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    until_published(&mut running, &data, "SELECT max(number) FROM blocks", "10");
    extend(&fake, 11, "");
    wait_for("an unhealthy status", || status(&data).contains("unhealthy: block 11").then_some(()));
    fake.no_faults();
    until_published(&mut running, &data, "SELECT max(number) FROM blocks", "11");
    wait_for("a healthy status", || status(&data).starts_with("Some(0)").then_some(()));
    running.stop();
}

#[test]
fn a_gas_price_beyond_a_decimal_keeps_its_digits() {
    // Directly through the library: no node would accept such a transaction.
    let mut rows = spyhop::rows::Rows::new(&spyhop::rows::withdrawals::TABLE);
    let wide = U256::from(10).pow(U256::from(38));
    rows.integer(1).unwrap();
    rows.hex(B256::ZERO);
    rows.time(0);
    rows.integer(0).unwrap();
    rows.long(0);
    rows.long(0);
    rows.hex([0; 20]);
    rows.wide(wide);
    let batch = rows.finish();
    let text = arrow::util::display::array_value_to_string(
        batch.column_by_name("amount_text").unwrap(),
        0,
    )
    .unwrap();
    assert_eq!(text, format!("1{}", "0".repeat(38)));
    assert!(batch.column_by_name("amount").unwrap().is_null(0));
}

/// Everything on a volume except what a writer changes while it waits.
fn contents(data: &Path) -> Vec<(std::path::PathBuf, String)> {
    let all = crate::rig::process::listing(data);
    all.into_iter()
        .filter(|(path, _)| {
            !path.starts_with(".spyhop/heartbeat") && !path.starts_with(".spyhop/tmp")
        })
        .collect()
}

#[test]
fn a_node_of_another_chain_at_the_same_socket_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut fake = node(directory.path(), 350, Some(320));
    let mut running = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    until_published(&mut running, &data, "SELECT max(number) FROM blocks", "350");
    wait_for("a healthy status", || status(&data).starts_with("Some(0)").then_some(()));
    // Another genesis block, and another chain id with the same one.
    for (id, head) in [(1337, 351), (5, 352)] {
        let before = contents(&data);
        fake.stop();
        let mut other = FakeGeth::start(directory.path());
        if id == 1337 {
            extend(&other, 360, "other");
        } else {
            let chain = fake.chain().clone();
            *other.chain() = chain;
            other.chain().chain_id = U256::from(id);
            extend(&other, 360, "");
        }
        let named = format!("is on chain {id} with genesis");
        wait_for("an unhealthy status", || {
            let said = status(&data);
            (said.starts_with("Some(1)")
                && said.contains(&named)
                && said.contains("nothing was touched"))
            .then_some(())
        });
        let asked = other.counts();
        assert_eq!(
            asked.of("debug_getRawBlock") + asked.of("debug_getRawReceipts"),
            0,
            "{asked:?}"
        );
        assert!(asked.all() < 100, "{asked:?}");
        assert!(running.is_running());
        assert_eq!(contents(&data), before, "{id}");
        other.stop();
        fake.restart();
        extend(&fake, head, "");
        until_published(&mut running, &data, "SELECT max(number) FROM blocks", &head.to_string());
        wait_for("a healthy status", || status(&data).starts_with("Some(0)").then_some(()));
    }
    running.stop();
}

#[test]
fn a_chain_that_is_exchanged_under_an_open_connection_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 50, None);
    let mut running = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    until_published(&mut running, &data, "SELECT max(number) FROM blocks", "50");
    let before = contents(&data);
    let chain = fake.chain().clone();
    fake.chain().clear();
    extend(&fake, 60, "other");
    wait_for("an unhealthy status", || {
        status(&data).contains("is on chain 1337 with genesis").then_some(())
    });
    assert_eq!(contents(&data), before);
    *fake.chain() = chain;
    extend(&fake, 51, "");
    until_published(&mut running, &data, "SELECT max(number) FROM blocks", "51");
    running.stop();
}

/// The JSON of a head.
fn head_json(number: u64, hash: B256, parent_hash: B256, timestamp: u64) -> Vec<u8> {
    let [number, timestamp] = [number, timestamp].map(|value| format!("{value:#x}"));
    let head = serde_json::json!({
        "number": number, "hash": hash, "parentHash": parent_hash, "timestamp": timestamp,
    });
    head.to_string().into_bytes()
}

#[test]
fn a_contradiction_of_the_node_is_reported_and_waited_out() {
    let foreign = B256::repeat_byte(7);
    let latest = || When::method("eth_getBlockByNumber").named("latest").always();
    let check = |case: &str, lie: &dyn Fn(&FakeGeth), named: &str| {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let fake = node(directory.path(), 350, Some(320));
        let mut running = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
        until_published(&mut running, &data, "SELECT max(number) FROM blocks", "350");
        wait_for("a healthy status", || status(&data).starts_with("Some(0)").then_some(()));
        let before = contents(&data);
        let asked = fake.counts().all();
        let start = std::time::Instant::now();
        lie(&fake);
        wait_for(case, || {
            let said = status(&data);
            (said.starts_with("Some(1)") && said.contains(named)).then_some(())
        });
        std::thread::sleep(std::time::Duration::from_secs(3));
        let rate = (fake.counts().all() - asked) as f64 / start.elapsed().as_secs_f64();
        assert!(rate < 20.0, "{case}: {rate} requests a second");
        assert_eq!(contents(&data), before, "{case}");
        fake.no_faults();
        extend(&fake, 351, "");
        until_published(&mut running, &data, "SELECT max(number) FROM blocks", "351");
        assert_eq!(rows(&data, "SELECT count(*) FROM reorgs"), ["0"], "{case}");
        wait_for("a healthy status", || status(&data).starts_with("Some(0)").then_some(()));
        running.stop();
    };
    let tip = |fake: &FakeGeth| fake.chain().head().unwrap();
    check(
        "a hash of its head that is not its block's",
        &|fake| {
            let head = head_json(350, foreign, tip(fake).parent_hash, 1_700_004_200);
            fake.fault(Fault::Replace(head), latest());
        },
        "the node reports block 350",
    );
    check(
        "the same wherever it names that block",
        &|fake| {
            let head = head_json(350, foreign, tip(fake).parent_hash, 1_700_004_200);
            fake.fault(
                Fault::Replace(head),
                When::method("eth_getBlockByNumber").block(350).always(),
            );
        },
        "block 350 of the node's chain is reported as",
    );
    check(
        "a head above the tip with a foreign parent",
        &|fake| {
            fake.fault(
                Fault::Replace(head_json(351, foreign, B256::repeat_byte(8), 1_700_004_212)),
                latest(),
            )
        },
        "the node reports block 351",
    );
    check(
        "a lower head with a foreign hash",
        &|fake| {
            fake.fault(Fault::Replace(head_json(340, foreign, foreign, 1_700_004_212)), latest())
        },
        "the node reports block 340",
    );
    check(
        "a head that no chain has",
        &|fake| {
            fake.fault(Fault::Replace(head_json(u64::MAX, foreign, foreign, u64::MAX)), latest())
        },
        "which no chain has",
    );
    for number in [352, u64::MAX / 2, u64::MAX] {
        check(
            "a finalized block above the head",
            &|fake| {
                let when = When::method("eth_getBlockByNumber").named("finalized").always();
                fake.fault(
                    Fault::Replace(head_json(number, foreign, foreign, 1_700_004_212)),
                    when,
                );
                // It is requested with each new head: the same block again, with another time.
                let head = tip(fake);
                fake.fault(
                    Fault::Replace(head_json(350, head.hash, head.parent_hash, 1_700_004_201)),
                    latest(),
                );
            },
            &format!("the node reports block {number} as finalized"),
        );
    }
}

#[test]
fn a_head_far_above_the_nodes_blocks_makes_nothing_final() {
    for lie in [1_000_000, u64::MAX / 4, u64::MAX] {
        for order in ["oldest", "newest"] {
            let directory = tempfile::tempdir().unwrap();
            let data = directory.path().join("data");
            let fake = node(directory.path(), 50, None);
            let watch =
                || Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--order", order]);
            let mut running = watch().spawn();
            until_published(&mut running, &data, "SELECT max(number) FROM blocks", "50");
            let hash = B256::repeat_byte(7);
            let when = || When::method("eth_getBlockByNumber").named("latest").always();
            fake.fault(Fault::Replace(head_json(lie, hash, hash, 1_700_000_600)), when());
            wait_for("an unhealthy status", || status(&data).starts_with("Some(1)").then_some(()));
            running.stop();
            // It is not believed at the start either.
            let mut running = watch().spawn();
            running.wait_for(&["waiting: the node reports block"]);
            wait_for("an unhealthy status", || {
                status(&data).contains("unhealthy: the node reports block").then_some(())
            });
            fake.no_faults();
            extend(&fake, 51, "");
            until_published(&mut running, &data, "SELECT max(number) FROM blocks", "51");
            assert!(!data.join("chain/first=0000000000").exists());
            running.stop();
        }
    }
}

#[test]
fn a_node_that_keeps_contradicting_itself_fails_a_command_that_ends_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 20, None);
    let hash = B256::repeat_byte(7);
    let when = || When::method("eth_getBlockByNumber").block(20).always();
    let parent = fake.chain().block(19).unwrap().hash;
    // Only in its head, and wherever it names that block.
    for when in [when().named("latest"), when()] {
        fake.fault(Fault::Replace(head_json(20, hash, parent, 1_700_000_240)), when);
        let error = once(&fake, &data).fail(1);
        assert!(
            error.contains("the node contradicts itself") && error.contains(&hash.to_string()),
            "{error}"
        );
        fake.no_faults();
    }
    once(&fake, &data).succeed();
    assert_eq!(blocks(&data), ["21,0,20"]);
    assert_eq!(rows(&data, "SELECT count(*) FROM reorgs"), ["0"]);
}

#[test]
fn keep_believes_no_time_that_is_not_proved() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 350, Some(320));
    let run = |once: &[&str]| {
        Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--keep", "1"]).args(once)
    };
    run(&["--once"]).succeed();
    assert_eq!(blocks(&data), ["351,0,350"]);
    let sealed = crate::rig::process::listing(&data.join("chain"));
    let head = fake.chain().head().unwrap();
    let future = head_json(350, head.hash, head.parent_hash, 1_700_000_000 + 86_400 * 3_650);
    fake.fault(
        Fault::Replace(future),
        When::method("eth_getBlockByNumber").named("latest").always(),
    );
    run(&["--once"]).succeed();
    assert_eq!(crate::rig::process::listing(&data.join("chain")), sealed);
    assert_eq!(blocks(&data), ["351,0,350"]);
}

#[test]
fn random_receipts_do_not_fill_the_volume() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 10, None);
    let mut running = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    until_published(&mut running, &data, "SELECT max(number) FROM blocks", "10");
    let top = fake.chain().head().unwrap().hash;
    fake.chain().push(block(11, top, &[vec![0x7e, 1, 2, 3]], ""));
    // One lie after the other.
    for lie in 0..40u8 {
        let receipt =
            const_hex::encode_prefixed([vec![0x7e, 0xc1, lie], vec![lie; 1 << 20]].concat());
        fake.fault(
            Fault::Replace(format!("[\"{receipt}\"]").into_bytes()),
            When::method("debug_getRawReceipts").block(11),
        );
    }
    fake.wait_until("the lies to be told", |counts| counts.of("debug_getRawReceipts") > 11 + 20);
    let kept = crate::rig::process::listing(&data.join("quarantine"));
    assert_eq!(kept.len(), 3, "{kept:?}");
    fake.no_faults();
    until_published(&mut running, &data, "SELECT max(number) FROM blocks", "11");
    running.stop();
}

/// A frame up to the end of its input, for others to follow below it.
const CALL_FRAME: &str = concat!(
    r#"{"type":"CALL","from":"0x0000000000000000000000000000000000000001","#,
    r#""gas":"0x1","gasUsed":"0x1","input":"0x""#,
);

#[test]
fn a_trace_deeper_than_the_evm_calls_is_none() {
    let nested = |depth: usize| {
        format!("{}{}", vec![CALL_FRAME; depth].join(r#","calls":["#), "}]".repeat(depth - 1) + "}")
    };
    let frames = spyhop::decode::trace::frames(&nested(1_026)).unwrap();
    assert_eq!(frames.len(), 1_026);
    for depth in [1_027, 100_000, 1_000_000] {
        let error = spyhop::decode::trace::frames(&nested(depth)).unwrap_err();
        assert_eq!(error.to_string(), "the trace is deeper than the EVM allows");
    }
}

#[test]
fn a_trace_that_is_too_deep_is_a_gap_with_that_reason() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = node(directory.path(), 10, None);
    let top = fake.chain().head().unwrap().hash;
    let envelope = vec![0x7e, 1, 2, 3];
    let hash = alloy_primitives::keccak256(&envelope);
    fake.chain().push(block(11, top, &[envelope], ""));
    let frames = vec![CALL_FRAME; 200_000].join(r#","calls":["#) + &"}]".repeat(199_999) + "}";
    let traces = format!(r#"[{{"txHash":"{hash}","result":{frames}}}]"#);
    fake.fault(
        Fault::Replace(traces.into_bytes()),
        When::method("debug_traceBlockByHash").always(),
    );
    once(&fake, &data).succeed();
    assert_eq!(blocks(&data), ["12,0,11"]);
    let reason = "SELECT DISTINCT reason FROM coverage WHERE table_name = 'native_transfers' AND \
        last_block = 11";
    assert_eq!(rows(&data, reason), ["the trace is deeper than the EVM allows"]);
}

#[test]
fn a_trace_that_contradicts_its_own_transaction_is_not_believed() {
    let geth = Geth::start(Forks::OSAKA);
    let transactions = vec![Transaction::transfer(0, sender(1), 1_000)];
    geth.block(&Plan { transactions, ..Plan::default() });
    let bytes = |value: &Value| const_hex::decode(value.as_str().unwrap()).unwrap();
    let raw = |number: u64| {
        let name = json!([format!("{number:#x}")]);
        let receipts = geth.call("debug_getRawReceipts", name.clone());
        let receipts = receipts.as_array().unwrap().iter().map(bytes).collect();
        FakeBlock::from_raw(bytes(&geth.call("debug_getRawBlock", name)), receipts)
    };
    let traced = geth.call("debug_traceBlockByNumber", json!(["0x1", {"tracer": "callTracer"}]));
    let other = format!("0x{}", "5".repeat(40));
    let check = |member: &str, lie: &str, is_believed: bool| {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let fake = FakeGeth::start(directory.path());
        {
            let mut chain = fake.chain();
            chain.push(raw(0));
            let hash = chain.push(raw(1));
            let mut traced = traced.clone();
            if !member.is_empty() {
                traced[0]["result"][member] = json!(lie);
            }
            chain.traces.insert(hash, traced);
        }
        Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
        let untrue = format!(
            "SELECT count(*) FROM native_transfers WHERE block_number = 1 AND kind = 'transaction'
            AND (value <> 1000 OR '{other}' IN (from_address, to_address))"
        );
        assert_eq!(rows(&data, &untrue), ["0"], "{member} {lie}");
        let gap = "SELECT DISTINCT reason LIKE '%contradicts transaction%' FROM coverage
            WHERE table_name = 'native_transfers' AND status <> 'held' AND first_block <= 1
                AND last_block >= 1";
        assert_eq!(
            rows(&data, gap),
            if is_believed { vec![] } else { vec!["true"] },
            "{member} {lie}"
        );
    };
    check("", "", true);
    check("value", "0x5", false);
    check("from", &other, false);
    check("to", &other, false);
    check("type", "STATICCALL", false);
    check("type", "FOO", false);
}

#[test]
fn a_connection_that_drops_at_any_request_of_the_start_is_waited_out() {
    for method in [
        "web3_clientVersion",
        "eth_chainId",
        "eth_getBlockByNumber",
        "admin_nodeInfo",
        "debug_dbGet",
    ] {
        for times in [1, 2] {
            let directory = tempfile::tempdir().unwrap();
            let data = directory.path().join("data");
            let fake = node(directory.path(), 20, None);
            fake.fault(Fault::Close, When::method(method).times(times));
            Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
            assert_eq!(
                rows(&data, "SELECT count(*) FROM blocks"),
                ["21"],
                "{method}, {times} times"
            );
        }
    }
}
