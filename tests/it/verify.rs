//! `spyhop verify`: intact data is proved, and it finds every change.

mod change;
mod damage;
mod derived;
mod odd_chain;

use crate::fake_geth::FakeGeth;
use crate::lying_node::extend;
use crate::rig::mixed::mixed_block;
use crate::rig::process::{listing, until};
use crate::rig::{
    Forks, Geth, Plan, Published, Spyhop, Transaction, contracts, transaction::sender,
};
use change::{Change, RangeFile, changed};
use ethers::types::U256;
use indicatif::ProgressBar;
use odd_chain::odd_chain;
use spyhop::rows::{CHAIN_TABLES, Selection};
use spyhop::store::{Store, TailBlock, tail};
use spyhop::verify::{Fault, Request, check, combined, recomputed};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The sealed range of the chains here.
const RANGE: &str = "chain/first=0000000000/last=0000000099";

fn once(socket: &Path, data: &Path) -> Spyhop {
    let weth = format!("{:?}", contracts::address(contracts::WETH));
    Spyhop::watch(socket, data).args(&["--from", "0", "--once", "--weth", &weth])
}

fn verify(data: &Path) -> Spyhop {
    Spyhop::new("verify").path("--data", data)
}

/// A mixed chain with tokens, and 130 blocks: 0 to 99 can be sealed.
fn mixed_chain_with_tokens() -> Geth {
    let geth = Geth::start(Forks::ALL);
    for number in 1..=31 {
        geth.block(&mixed_block(number));
    }
    let transfers = (0..3).map(|index| {
        let log = contracts::erc20_transfer(sender(0), sender(1), U256::from(index));
        Transaction::logs(index, contracts::TOKEN, &[log])
    });
    geth.block(&Plan { transactions: transfers.collect(), ..Plan::default() });
    geth.blocks(98, "plain");
    geth.finalize(110);
    geth
}

/// The faults of some blocks, as the command would print them. With `deep`, senders are recovered
/// one by one and then in batches, with the same result.
fn faults(data: &Path, blocks: Option<(u64, u64)>, deep: bool) -> Vec<Fault> {
    let (from, to) = blocks.unzip();
    let found = |fast| {
        let settings = Request { data: data.to_owned(), from, to, deep, fast, ipc: None };
        let mut faults = Vec::new();
        let report =
            check(&settings, &ProgressBar::hidden(), &mut |fault| faults.push(fault.clone()))
                .unwrap();
        assert_eq!(report.faults, faults.len() as u64);
        faults
    };
    let faults = found(false);
    if deep {
        let lines = |faults: &[Fault]| faults.iter().map(Fault::to_string).collect::<Vec<_>>();
        assert_eq!(lines(&found(true)), lines(&faults), "with --fast");
    }
    faults
}

/// The columns that a block is rebuilt from: a change makes it another block, and the fault names
/// the failed check, with the row if a stored hash identifies it. All other columns are recomputed,
/// and named themselves.
fn is_rebuilt_from(table: &str, column: &str) -> bool {
    let columns = match table {
        "blocks" => {
            "number timestamp timestamp_text parent_hash nonce sha3_uncles logs_bloom \
             transactions_root state_root receipts_root miner difficulty difficulty_text \
             extra_data gas_limit gas_limit_text gas_used gas_used_text mix_hash \
             base_fee_per_gas base_fee_per_gas_text withdrawals_root blob_gas_used \
             blob_gas_used_text excess_blob_gas parent_beacon_block_root requests_hash \
             block_access_list_hash slot_number extra_fields"
        }
        "transactions" => {
            "transaction_type to_address value value_text gas gas_price gas_price_text \
             max_fee_per_gas max_fee_per_gas_text max_priority_fee_per_gas \
             max_priority_fee_per_gas_text max_fee_per_blob_gas max_fee_per_blob_gas_text nonce \
             input chain_id access_list authorization_list blob_versioned_hashes v r s raw \
             receipt_status receipt_root receipt_cumulative_gas_used"
        }
        "logs" => "transaction_index address topic0 topic1 topic2 topic3 data",
        "withdrawals" => "index validator_index address amount amount_text",
        "uncles" => {
            "number timestamp timestamp_text parent_hash nonce sha3_uncles logs_bloom \
             transactions_root state_root receipts_root miner difficulty difficulty_text \
             extra_data gas_limit gas_limit_text gas_used gas_used_text mix_hash \
             base_fee_per_gas base_fee_per_gas_text withdrawals_root blob_gas_used \
             blob_gas_used_text excess_blob_gas parent_beacon_block_root requests_hash \
             block_access_list_hash slot_number extra_fields"
        }
        _ => "",
    };
    columns.split_whitespace().any(|name| name == column)
}

/// Changes a cell of every column in every possible way, and returns the columns and ways.
fn change_every_column(data: &Path) -> BTreeSet<String> {
    let mut done = BTreeSet::new();
    let directory = data.join(RANGE).join("g1");
    for table in recomputed(Selection::ALL).tables() {
        let file = RangeFile::open(&directory, table);
        for column in table.columns {
            for change in [Change::Other, Change::Null, Change::Value] {
                let rows = file.candidates(column, change);
                let Some(row) = rows.get(rows.len() / 2).copied() else { continue };
                file.write(column, row, change);
                let (number, place) = file.place(row);
                let shown = format!(
                    "{}.{}: {change:?} in block {number}, row {place}",
                    table.name, column.name
                );
                let faults =
                    faults(data, Some((number.saturating_sub(1), (number + 1).min(99))), true);
                let lines: Vec<_> = faults.iter().map(Fault::to_string).collect();
                // A row of another block is reported there, and missing here: in a table with one
                // row per block these are two faults.
                if table.name == "gas_blocks" && faults.len() == 2 {
                    assert!(
                        faults.iter().all(|fault| &fault.place[..] == "gas_blocks"),
                        "{shown}: {lines:?}"
                    );
                    done.insert(format!("{}.{} {change:?}", table.name, column.name));
                    continue;
                }
                let [fault] = &faults[..] else {
                    panic!("{shown}: {} faults: {lines:#?}", faults.len())
                };
                assert_eq!(fault.block, Some(number), "{shown}: {lines:?}");
                if !is_rebuilt_from(table.name, column.name) {
                    assert_eq!(
                        (&fault.place[..], &fault.check[..]),
                        (table.name, column.name),
                        "{shown}: {lines:?}"
                    );
                    assert_eq!(fault.row, Some(place), "{shown}: {lines:?}");
                }
                done.insert(format!("{}.{} {change:?}", table.name, column.name));
            }
        }
        drop(file);
    }
    for table in combined(Selection::ALL).tables() {
        let file = RangeFile::open(&directory, table);
        for column in table.columns {
            for change in [Change::Other, Change::Null, Change::Value] {
                let mut rows = file.candidates(column, change);
                if column.name.contains("balance") {
                    // A balance that was not known may be known now: then only the manifest's
                    // BLAKE3 protects it.
                    let known = &file.rows["to_balance"];
                    rows.retain(|row| known.is_valid(*row) && change != Change::Null);
                }
                let Some(row) = rows.get(rows.len() / 2).copied() else { continue };
                file.write(column, row, change);
                let faults = faults(data, Some((0, 99)), true);
                let lines: Vec<_> = faults.iter().map(Fault::to_string).collect();
                let [fault] = &faults[..] else {
                    panic!("{}.{}: {change:?}: {lines:#?}", table.name, column.name)
                };
                assert_eq!(
                    (&fault.place[..], &fault.check[..]),
                    (table.name, column.name),
                    "{change:?}: {lines:?}"
                );
                assert_eq!((fault.row, fault.key.is_some()), (Some(row), true), "{lines:?}");
                done.insert(format!("{}.{} {change:?}", table.name, column.name));
            }
        }
        drop(file);
    }
    done
}

#[test]
fn a_single_cell_changed_in_any_column_is_found() {
    let geth = mixed_chain_with_tokens();
    let mixed = geth.data("data");
    once(&geth.socket(), &mixed).succeed();
    let directory = tempfile::tempdir().unwrap();
    let fake = odd_chain(directory.path());
    let odd = directory.path().join("data");
    once(fake.path(), &odd).succeed();

    let mut done = BTreeSet::new();
    for data in [&mixed, &odd] {
        assert_eq!(faults(data, None, true), [], "before anything was changed");
        done.extend(change_every_column(data));
        assert_eq!(faults(data, None, true), [], "after everything was put back");
    }
    let every = recomputed(Selection::ALL).with(combined(Selection::ALL));
    for table in every.tables() {
        for column in table.columns {
            let changes = [Change::Other, Change::Null, Change::Value];
            let changed = changes
                .iter()
                .any(|change| done.contains(&format!("{}.{} {change:?}", table.name, column.name)));
            assert!(changed, "{}.{} was not changed", table.name, column.name);
        }
    }
    // Values that neither chain has: no withdrawal or balance is that large, no time that late, no
    // blob that expensive, and senders are known for traced blocks only (`verify::derived`).
    let values: BTreeSet<_> = done.iter().filter_map(|done| done.strip_suffix(" Other")).collect();
    let all = every
        .tables()
        .flat_map(|table| table.columns.iter().map(move |column| (table.name, column.name)));
    let without: Vec<_> =
        all.filter(|(table, column)| !values.contains(&format!("{table}.{column}")[..])).collect();
    let lacking = [
        ("blocks", "timestamp_text"),
        ("transactions", "max_fee_per_blob_gas_text"),
        ("withdrawals", "amount_text"),
        ("large_transfers", "from_balance"),
        ("large_transfers", "from_balance_text"),
        ("large_transfers", "to_balance_text"),
    ];
    assert_eq!(without, lacking);
}

#[test]
fn a_changed_cell_of_a_tail_file_is_found_and_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 30, "");
    once(fake.path(), &data).succeed();
    let before = Published::open(&data).digests();
    assert!(
        verify(&data)
            .args(&["--deep"])
            .succeed()
            .contains("31 blocks in 0 ranges and 31 tail files")
    );
    change_gas_limit(&data, 20);
    verify(&data).succeed();
    let output = verify(&data).args(&["--deep"]).run();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.starts_with("blocks: block 20, header hash: expected 0x"), "{printed}");

    // `watch` treats it as a missing block.
    verify(&data).args(&["--deep", "--repair"]).path("--ipc", fake.path()).succeed();
    once(fake.path(), &data).succeed();
    verify(&data).args(&["--deep"]).succeed();
    assert_eq!(Published::open(&data).digests(), before);
    assert!(
        listing(&data.join("quarantine"))
            .iter()
            .any(|(path, _)| path.to_string_lossy().contains("tail/0000000020-"))
    );
}

/// Changes the gas limit in a tail file's row of `blocks`, with a valid checksum.
fn change_gas_limit(data: &Path, number: u64) {
    let store = Store::open(data).unwrap();
    let paths = tail::paths(data).unwrap();
    let (number, hash) = paths
        .iter()
        .filter_map(|path| tail::block_of(path))
        .find(|block| block.0 == number)
        .unwrap();
    let TailBlock { link, tables, mut batches, gaps } = tail::read(data, number, hash).unwrap();
    let column = CHAIN_TABLES[0].columns.iter().find(|column| column.name == "gas_limit").unwrap();
    let columns = CHAIN_TABLES[0].columns.iter().zip(batches[0].columns()).map(|(other, cells)| {
        if other.name == column.name {
            changed(cells, column, 0, Change::Other)
        } else {
            cells.clone()
        }
    });
    batches[0] =
        arrow::array::RecordBatch::try_new(batches[0].schema(), columns.collect()).unwrap();
    tail::write(&store, &[TailBlock { link, tables, batches, gaps }]).unwrap();
}

/// A volume with blocks 0 to 350, of which 0 to 299 are sealed in three ranges.
fn three_ranges(directory: &Path) -> (FakeGeth, PathBuf) {
    let data = directory.join("data");
    let fake = FakeGeth::start(directory);
    extend(&fake, 350, "");
    fake.chain().finalized = Some(320);
    once(fake.path(), &data).succeed();
    (fake, data)
}

fn range(data: &Path, first: u64, generation: u32) -> PathBuf {
    data.join(format!("chain/first={first:010}/last={:010}/g{generation}", first + 99))
}

/// The output of `verify`, which must be one fault and a summary.
#[track_caller]
fn one_fault(command: Spyhop) -> String {
    let output = command.run();
    let printed = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}{complaint}");
    let lines: Vec<_> = printed.lines().collect();
    let [fault, summary, ..] = lines[..] else { panic!("{printed}") };
    assert!(summary.ends_with(": 1 faults"), "{printed}");
    fault.to_owned()
}

#[test]
fn damaged_files_are_found_without_recomputing() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = three_ranges(directory.path());
    let summary = verify(&data).path("--ipc", fake.path()).succeed();
    assert_eq!(
        summary,
        "351 blocks in 3 ranges and 51 tail files, files, counts and links checked: 0 faults\n"
    );
    let good = range(&data, 100, 1);
    let check = |change: &dyn Fn(&Path), expected: &str| {
        let kept: Vec<_> = fs::read_dir(&good)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (fs::read(&path).unwrap(), path))
            .collect();
        change(&good);
        let fault = one_fault(verify(&data));
        assert!(fault.contains(expected), "expected {expected}: {fault}");
        for (bytes, path) in kept {
            fs::write(path, bytes).unwrap();
        }
    };
    for table in Selection::default().tables() {
        let file = format!("{}.parquet", table.name);
        let length = fs::metadata(good.join(&file)).unwrap().len() as usize;
        for at in [0, 7, length / 2, length - 1] {
            let flip = |directory: &Path| {
                let mut bytes = fs::read(directory.join(&file)).unwrap();
                bytes[at] ^= 1;
                fs::write(directory.join(&file), bytes).unwrap();
            };
            check(&flip, &format!("g1/{file}: BLAKE3: expected "));
        }
    }
    let file = good.join("logs.parquet");
    check(
        &|_| fs::write(&file, fs::read(&file).unwrap().split_last().unwrap().1).unwrap(),
        "logs.parquet: BLAKE3",
    );
    check(&|_| fs::remove_file(&file).unwrap(), "logs.parquet: file: expected an existing file");
    let manifest = |from: &'static str, to: &'static str| {
        move |directory: &Path| {
            let path = directory.join("manifest.json");
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{text}");
            fs::write(path, without_checksum(&text).replacen(from, to, 1)).unwrap();
        }
    };
    check(
        &manifest("\"rows\": 100", "\"rows\": 99"),
        "blocks.parquet: rows: expected 99, found 100",
    );
    check(
        &manifest("\"chain_id\": 1337", "\"chain_id\": 1"),
        "manifest.json: chain id: expected 1337, found 1",
    );
    check(
        &manifest("      100,\n", "      101,\n"),
        "blocks covered by `address_flows`: expected [[100, 199]], found [[101, 199]]",
    );
    check(
        &manifest("\"last_timestamp\": 17", "\"last_timestamp\": 18"),
        "manifest.json: last timestamp",
    );
    check(&manifest("{", "["), "manifest.json: manifest: expected a readable file");
    let flip_digit = |directory: &Path| {
        let path = directory.join("manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replacen("\"rows\": 100", "\"rows\": 101", 1)).unwrap();
    };
    check(
        &flip_digit,
        "manifest.json: manifest: expected a readable file, found its checksum does not match",
    );
    verify(&data).succeed();
}

#[test]
fn links_are_followed_between_ranges_and_into_the_tail_and_to_the_node() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = three_ranges(directory.path());
    // A range of another branch: valid in itself, but not linked to its neighbours.
    let other = tempfile::tempdir().unwrap();
    let branch = FakeGeth::start(other.path());
    extend(&branch, 350, "other");
    branch.chain().finalized = Some(320);
    let strange = other.path().join("data");
    once(branch.path(), &strange).succeed();
    let (kept, put) = (directory.path().join("kept"), range(&data, 200, 1));
    fs::rename(&put, &kept).unwrap();
    copy(&range(&strange, 200, 1), &put);
    let text = fs::read_to_string(put.join("manifest.json")).unwrap();
    let genesis = |fake: &FakeGeth| fake.chain().block(0).unwrap().hash.to_string();
    let text = without_checksum(&text);
    fs::write(put.join("manifest.json"), text.replace(&genesis(&branch), &genesis(&fake))).unwrap();
    let found: Vec<_> = faults(&data, None, true).iter().map(Fault::to_string).collect();
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].contains("block 200, parent hash, the last hash of the range below: expected 0x"),
        "{found:#?}"
    );
    assert!(found[1].starts_with("tail: block 300, parent hash: expected 0x"), "{found:#?}");

    // The node shows which of the two ranges is wrong, and so a repair knows it.
    let output = verify(&data).path("--ipc", fake.path()).run();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("block 299, last hash, the node's: expected 0x"), "{printed}");
    verify(&data).args(&["--repair"]).path("--ipc", fake.path()).succeed();
    assert_eq!(blake3_of(&range(&data, 200, 2)), blake3_of(&kept));
    // The tail did not link to the wrong range: it is fetched again.
    once(fake.path(), &data).succeed();
    verify(&data).args(&["--deep"]).path("--ipc", fake.path()).succeed();

    // A hole, and a tail that does not begin where the ranges end.
    fs::rename(range(&data, 100, 1), directory.path().join("hole")).unwrap();
    let fault = one_fault(verify(&data));
    assert_eq!(
        fault,
        "coverage: block 100, stored blocks: expected blocks 100 to 199, found none; \
         `spyhop watch` fetches them again"
    );
    let fault = one_fault(verify(&data).args(&["--from", "150", "--to", "250"]));
    assert_eq!(
        fault,
        "coverage: block 150, stored blocks: expected blocks 150 to 199, found none of them"
    );
    verify(&data).args(&["--from", "200", "--to", "320"]).succeed();
}

/// A record as written by an earlier version.
fn without_checksum(record: &str) -> String {
    let (body, _) = record.split_once(",\n  \"checksum\"").unwrap();
    format!("{body}\n}}")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The BLAKE3 of each table's file, from a range's manifest.
fn blake3_of(range: &Path) -> BTreeMap<String, String> {
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(range.join("manifest.json")).unwrap()).unwrap();
    let tables = manifest["tables"].as_object().unwrap();
    tables
        .iter()
        .map(|(name, table)| (name.clone(), table["blake3"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn a_repaired_range_equals_the_old_good_one() {
    let geth = mixed_chain_with_tokens();
    let data = geth.data("data");
    once(&geth.socket(), &data).succeed();
    let good = (blake3_of(&data.join(RANGE).join("g1")), Published::open(&data).digests());
    let repair = |arguments: &[&str]| {
        let printed = verify(&data)
            .args(arguments)
            .args(&["--repair"])
            .path("--ipc", &geth.socket())
            .succeed();
        assert!(printed.ends_with(": 0 faults\n"), "{printed}");
        assert_eq!(Published::open(&data).digests(), good.1);
        printed
    };
    // Nothing is wrong: nothing is done.
    let before = listing(&data.join("chain"));
    repair(&["--deep"]);
    assert_eq!(listing(&data.join("chain")), before);

    // A flipped bit; an unreadable manifest; a cell that only recomputing shows.
    let path =
        |generation: u32, file: &str| data.join(RANGE).join(format!("g{generation}")).join(file);
    let mut bytes = fs::read(path(1, "transactions.parquet")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path(1, "transactions.parquet"), bytes).unwrap();
    assert!(repair(&[]).contains("transactions.parquet: BLAKE3"));
    fs::write(path(2, "manifest.json"), "{").unwrap();
    assert!(repair(&[]).contains("g2/manifest.json: manifest"));
    let table = CHAIN_TABLES[2];
    let file = RangeFile::open(&data.join(RANGE).join("g3"), table);
    let column = table.columns.iter().find(|column| column.name == "transaction_hash").unwrap();
    file.write(column, 3, Change::Other);
    std::mem::forget(file);
    verify(&data).succeed();
    assert!(repair(&["--deep"]).contains("logs: block 1, row 3, transaction_hash: expected 0x"));

    let left: Vec<_> =
        fs::read_dir(data.join(RANGE)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["g4"]);
    assert_eq!(blake3_of(&data.join(RANGE).join("g4")), good.0);
    // The old ones are kept for the operator.
    let kept = listing(&data.join("quarantine"));
    for generation in ["g1", "g2", "g3"] {
        let file = format!("{RANGE}/{generation}/transactions.parquet");
        assert!(
            kept.iter().any(|(path, _)| path.ends_with(&file)),
            "{generation} is not in {kept:?}"
        );
    }
}

#[test]
fn a_range_without_some_tables_is_checked_and_repaired_with_those_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 350, "");
    fake.chain().finalized = Some(320);
    let held = |name: &str, tables: &str| {
        let data = directory.path().join(name);
        once(fake.path(), &data).args(&["--tables", tables]).succeed();
        data
    };
    let summary = "351 blocks in 3 ranges and 51 tail files, rows recomputed: 0 faults\n";
    // Nothing depends on the tables left out.
    let enough = held("enough", "blocks,transactions,logs,withdrawals,uncles");
    assert_eq!(verify(&enough).args(&["--deep"]).succeed(), summary);
    let logs = held("logs", "logs");
    let lack = "351 of the blocks lack blocks, transactions, uncles, withdrawals: \
                only their files could be checked\n";
    assert_eq!(verify(&logs).args(&["--deep"]).succeed(), format!("{summary}{lack}"));

    let few = held("few", "blocks,logs");
    let lack = "351 of the blocks lack transactions, uncles, withdrawals: \
                only their headers, links and files could be checked\n";
    assert_eq!(
        verify(&few).args(&["--deep"]).path("--ipc", fake.path()).succeed(),
        format!("{summary}{lack}")
    );
    let (good, count) = (blake3_of(&range(&few, 100, 1)), "SELECT count(*) FROM blocks");
    let table = CHAIN_TABLES[0];
    let file = RangeFile::open(&range(&few, 100, 1), table);
    let column = table.columns.iter().find(|column| column.name == "state_root").unwrap();
    file.write(column, 50, Change::Other);
    std::mem::forget(file);
    verify(&few).succeed();
    let printed = verify(&few).args(&["--deep", "--repair"]).path("--ipc", fake.path()).succeed();
    assert!(printed.starts_with("blocks: block 150, header hash: expected 0x"), "{printed}");
    assert_eq!(blake3_of(&range(&few, 100, 2)), good);
    assert_eq!(good.keys().collect::<Vec<_>>(), ["blocks", "logs"]);
    assert_eq!(Published::open(&few).number(count), 351);
    assert_eq!(tail::paths(&few).unwrap().len(), 51);
}

#[test]
fn a_damaged_tail_chunk_is_found_and_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 1_150, "");
    once(fake.path(), &data).args(&["--finality-depth", "5000"]).succeed();
    verify(&data).succeed();
    let chunk = spyhop::store::chunk::paths(&data).unwrap().remove(0);
    let file = data.join(chunk).join("blocks.parquet");
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[1..]).unwrap();
    assert!(one_fault(verify(&data)).contains("blocks.parquet: BLAKE3"));
    verify(&data).args(&["--repair"]).path("--ipc", fake.path()).succeed();
    assert_eq!(fs::read(&file).unwrap(), good);
    assert_eq!(Published::open(&data).check_prefix(0), Some(1_150));
}

#[test]
fn verify_beside_a_writer_finds_no_fault_and_repair_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 150, "");
    fake.chain().finalized = Some(110);
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    let mut head = 150;
    for round in 0..12 {
        until(&mut watch, "the head in the published file", || {
            (Published::try_open(&data).ok()?.head()?.0 == head).then_some(())
        });
        // While the next blocks are stored, sealed, merged, and some of them dropped.
        if round % 3 == 2 {
            fake.chain().rewind(head - 20);
        }
        head += 100;
        extend(&fake, head, &format!("round {round}"));
        fake.chain().finalized = Some(head - 40);
        let printed = verify(&data).args(&["--deep"]).path("--ipc", fake.path()).succeed();
        assert!(printed.contains(" 0 faults\n"), "{printed}");
    }
    let complaint = verify(&data).args(&["--repair"]).path("--ipc", fake.path()).fail(2);
    assert!(complaint.contains("another spyhop"), "{complaint}");
    watch.stop();
}

#[test]
fn a_node_of_another_chain_and_an_unreachable_node_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 20, "");
    once(fake.path(), &data).succeed();
    let other = tempfile::tempdir().unwrap();
    let stranger = FakeGeth::start(other.path());
    extend(&stranger, 20, "other");
    let complaint = verify(&data).path("--ipc", stranger.path()).fail(2);
    assert!(complaint.contains("genesis"), "{complaint}");
    let nobody = directory.path().join("nobody.ipc");
    let output = verify(&data).path("--ipc", &nobody).run();
    assert!(output.status.success());
    assert!(crate::rig::process::stderr_of(&output).contains("no node answers"));
    let complaint = verify(&data).args(&["--repair"]).fail(2);
    assert!(complaint.contains("--ipc"), "{complaint}");
    let complaint = verify(&other.path().join("empty")).fail(1);
    assert!(complaint.contains("no data in"), "{complaint}");
}
