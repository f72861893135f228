//! History from geth's freezer equals history over its socket, and no error in the freezer gets
//! through.

use crate::fake_geth::{FakeBlock, FakeGeth, Fault, When};
use crate::lying_node::extend;
use crate::rig::ancient::{items, list};
use crate::rig::mixed::{mixed_block, mixed_chain};
use crate::rig::process::stderr_of;
use crate::rig::random::Random;
use crate::rig::{Ancient, AncientBlock, Forks, Geth, Published, Spyhop, fixtures, wait_for};
use alloy_primitives::{B256, Bytes};
use arrow::array::RecordBatch;
use serde_json::json;
use spyhop::decode::{Block, Depth};
use spyhop::freezer::{Error, Freezer, FreezerRun, Stored};
use spyhop::prove::{BlobSchedule, Expected, prove};
use spyhop::recover::Backend;
use spyhop::rows::{Batch, Options, State};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A chain with everything in it: 330 blocks, of which 0 to 299 can be sealed.
pub fn chain() -> Geth {
    let geth = mixed_chain();
    for number in 131..=330 {
        match number % 40 {
            0 => drop(geth.block(&mixed_block(number))),
            _ => drop(geth.blocks(1, "plain")),
        }
    }
    geth.finalize(320);
    geth
}

/// `backfill` of all finalized blocks.
pub fn backfill(geth: &Geth, data: &Path) -> Spyhop {
    Spyhop::backfill(&geth.socket(), data).args(&["--from", "0"])
}

/// The chain tables after everything was read over the socket.
pub fn over_the_socket(geth: &Geth) -> BTreeMap<&'static str, String> {
    let data = geth.data("over the socket");
    let nowhere = geth.data("nowhere");
    assert_eq!(read(backfill(geth, &data).path("--ancient", &nowhere)), (0, 300));
    Published::open(&data).digests()
}

/// Runs a backfill, requires success, and returns how many blocks came from the freezer and from
/// the node.
#[track_caller]
pub fn read(backfill: Spyhop) -> (u64, u64) {
    let output = backfill.run();
    let log = stderr_of(&output);
    assert!(output.status.success(), "{log}");
    blocks_read(&log)
}

/// How many blocks came from the freezer and from the node, according to the end of the log.
pub fn blocks_read(log: &str) -> (u64, u64) {
    let of = |source: &str| {
        let line = log
            .lines()
            .rev()
            .find(|line| line.contains("read") && line.contains(&format!("source=\"{source}\"")));
        line.map_or(0, |line| {
            let blocks = line.split_once("blocks=").unwrap().1;
            blocks.split(' ').next().unwrap().parse().unwrap()
        })
    };
    (of("freezer"), of("node"))
}

/// Every block of a geth up to `last`, from its raw calls.
pub fn raw_blocks(geth: &Geth, last: u64) -> Vec<AncientBlock> {
    let bytes = |value: &serde_json::Value| const_hex::decode(value.as_str().unwrap()).unwrap();
    (0..=last)
        .map(|number| {
            let number = json!([format!("{number:#x}")]);
            let raw_block = bytes(&geth.call("debug_getRawBlock", number.clone()));
            let receipts = geth.call("debug_getRawReceipts", number);
            let raw_receipts = receipts.as_array().unwrap().iter().map(bytes).collect();
            AncientBlock::from_raw(&FakeBlock::from_raw(raw_block, raw_receipts))
        })
        .collect()
}

#[test]
fn the_ancient_store_gives_the_same_tables_as_the_socket_while_geth_appends() {
    let mut geth = chain();
    let expected = over_the_socket(&geth);
    geth.freeze(320);
    let data = geth.data("frozen");
    assert_eq!(read(backfill(&geth, &data)), (300, 0));
    assert_eq!(Published::open(&data).digests(), expected);
    assert_eq!(Published::open(&data).check_prefix(0), Some(299));

    // In the background, with the head.
    let data = geth.data("watched");
    let output = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).run();
    let log = stderr_of(&output);
    assert!(
        output.status.success() && log.contains("history up to the finalized block is read from"),
        "{log}"
    );
    assert_eq!(Published::open(&data).check_prefix(0), Some(330));

    // One backfill after the other, until geth has appended during one of them.
    let frozen = geth.frozen();
    geth.blocks(200, "more");
    geth.finalize(geth.head().number);
    let mut round = 0;
    wait_for("geth to append", || {
        round += 1;
        let data = geth.data(&format!("round {round}"));
        let (from_store, _) = read(backfill(&geth, &data).args(&["--to", "299"]));
        assert_eq!(from_store, 300);
        assert_eq!(Published::open(&data).digests(), expected, "round {round}");
        (geth.frozen() > frozen).then_some(())
    });
    let data = geth.data("appended");
    assert_eq!(read(backfill(&geth, &data)), (500, 0));
    let appended = Published::open(&data);
    assert_eq!(appended.check_prefix(0), Some(499));
    let data = geth.data("all over the socket");
    assert_eq!(read(backfill(&geth, &data).path("--ancient", &geth.data("nowhere"))), (0, 500));
    assert_eq!(Published::open(&data).digests(), appended.digests());
}

#[test]
fn senders_are_the_same_with_batches_switched_off() {
    let mut geth = chain();
    geth.freeze(320);
    let run = |name: &str, recover: Option<&str>| {
        let data = geth.data(name);
        let backfill = backfill(&geth, &data);
        let backfill = match recover {
            Some(recover) => backfill.env("SPYHOP_RECOVER", recover),
            None => backfill,
        };
        let output = backfill.run();
        let log = stderr_of(&output);
        assert!(output.status.success(), "{log}");
        (Published::open(&data).digests(), log)
    };
    let (batches, log) = run("batches", None);
    let says = |log: &str, backend: &str| {
        assert!(log.contains(&format!("senders=\"{backend}\"")), "{log}");
    };
    says(&log, Backend::detect().name());
    let (one_by_one, log) = run("one by one", Some("libsecp256k1"));
    says(&log, "libsecp256k1");
    assert_eq!(one_by_one, batches);
}

#[test]
fn stores_of_every_shape_give_the_same_tables() {
    let geth = chain();
    let expected = over_the_socket(&geth);
    let store = Ancient::new(0, raw_blocks(&geth, 320));
    // Name, freezer, and how many blocks are read from it; the node has the rest.
    let shapes = [
        ("one file to a table", store.clone(), 300),
        ("metadata of version 1", Ancient { meta_version: 1, ..store.clone() }, 300),
        ("several files to a table", Ancient { file_bytes_max: 60_000, ..store.clone() }, 300),
        ("a file to each large item", Ancient { file_bytes_max: 1, ..store.clone() }, 300),
        ("hidden up to 150", Ancient { tail: 150, ..store.clone() }, 100),
        (
            "cut and hidden up to 150",
            Ancient { tail: 150, file_bytes_max: 30_000, ..store.clone() },
            100,
        ),
        (
            "cut up to 200",
            Ancient { tail: 200, file_bytes_max: 1, meta_version: 1, ..store.clone() },
            100,
        ),
        ("pruned whole", Ancient { tail: 321, ..store.clone() }, 0),
        ("not yet there", Ancient { blocks: Vec::new(), ..store.clone() }, 0),
        (
            "ends within a hundred",
            Ancient { blocks: store.blocks[..250].to_vec(), ..store.clone() },
            200,
        ),
    ];
    for (name, shape, count) in shapes {
        let ancient = geth.data(&format!("ancient {name}"));
        // In today's layout, and in that with a single freezer.
        shape.write(&if count == 300 { ancient.join("chain") } else { ancient.clone() });
        let data = geth.data(&format!("data {name}"));
        assert_eq!(
            read(backfill(&geth, &data).path("--ancient", &ancient)),
            (count, 300 - count),
            "{name}"
        );
        assert_eq!(Published::open(&data).digests(), expected, "{name}");
    }
    let files = |name: &str| {
        let entries = fs::read_dir(geth.data(&format!("ancient {name}/chain"))).unwrap();
        entries
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("bodies.0")
            })
            .count()
    };
    assert!(files("several files to a table") >= 2, "{}", files("several files to a table"));
    assert_eq!(files("one file to a table"), 1);
    // The truncated one has lost its first files.
    assert!(!geth.data("ancient cut and hidden up to 150").join("bodies.0000.cdat").exists());
}

/// The rows of stored blocks, by the whole path from the files; or an error.
fn rows_of(
    directory: &Path,
    first: u64,
    last: u64,
    schedule: &BlobSchedule,
) -> Result<Vec<RecordBatch>, String> {
    let mut freezer = Freezer::open(directory).map_err(|error| error.to_string())?;
    let extent = freezer.extent().map_err(|error| error.to_string())?;
    if !extent.is_some_and(|(from, to)| from <= first && last <= to) {
        return Err(format!("it holds {extent:?}"));
    }
    rows_from(first, last, schedule, |first, last| freezer.read(first, last))
}

/// The rows of stored blocks, read a run at a time.
pub fn rows_from(
    first: u64,
    last: u64,
    schedule: &BlobSchedule,
    mut read: impl FnMut(u64, u64) -> Result<FreezerRun, Error>,
) -> Result<Vec<RecordBatch>, String> {
    let mut batch = Batch::new(Options::default());
    let mut below: Option<B256> = None;
    let mut next = first;
    while next <= last {
        for Stored { number, hash, header, body, receipts } in
            read(next, last).map_err(|error| error.to_string())?.blocks
        {
            let block = Block::decode_stored(header, body, &receipts, Depth::Fields);
            let mut block = block.map_err(|error| format!("{error:#}"))?;
            spyhop::recover::senders_of(&mut block).map_err(|error| format!("{error:#}"))?;
            let expected = Expected { number, hash: Some(hash), parent_hash: below };
            let block = prove(block, &expected, schedule).map_err(|failed| failed.0.to_string())?;
            below = Some(block.header.hash);
            batch
                .push(&block, &State::missing("not requested"))
                .map_err(|error| format!("{error:#}"))?;
            next = number + 1;
        }
    }
    batch.finish().map_err(|error| format!("{error:#}"))
}

#[test]
fn every_flipped_bit_is_harmless_or_caught() {
    let geth = chain();
    let directory = tempfile::tempdir().unwrap();
    // Small files, so that a flip hits every part of the format equally often.
    let mut store = Ancient { file_bytes_max: 20_000, ..Ancient::new(0, raw_blocks(&geth, 320)) };
    store.blocks.truncate(45);
    store.write(directory.path());
    let schedule = BlobSchedule::default();
    let last = store.blocks.len() as u64 - 1;
    let expected = rows_of(directory.path(), 0, last, &schedule).unwrap();
    let files: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::metadata(path).unwrap().len() > 0)
        .collect();
    let mut random = Random::new("every_flipped_bit_is_harmless_or_caught");
    let (mut caught, mut harmless) = (0, 0);
    for flip in 0..600 {
        // Half of the flips in the small files, of which there are many.
        let path = &files[random.within(0..=files.len() as u64 - 1) as usize];
        let whole = fs::read(path).unwrap();
        let at = random.within(0..=whole.len() as u64 - 1) as usize;
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << random.within(0..=7);
        fs::write(path, &flipped).unwrap();
        match rows_of(directory.path(), 0, last, &schedule) {
            Err(_) => caught += 1,
            Ok(rows) => {
                assert!(
                    rows == expected,
                    "flip {flip}: byte {at} of {} got through",
                    path.display()
                );
                harmless += 1;
            }
        }
        fs::write(path, whole).unwrap();
    }
    println!("{caught} caught, {harmless} harmless");
    assert!(caught > 400, "{caught} caught, {harmless} harmless");
}

#[test]
fn a_damaged_store_costs_one_warning_and_the_node_gives_the_range() {
    let geth = chain();
    let expected = over_the_socket(&geth);
    let store = Ancient { file_bytes_max: 10_000, ..Ancient::new(0, raw_blocks(&geth, 320)) };
    // The damage to the freezer, and the text of the warning.
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &str); 6] = [
        ("flipped", |path| flip(&path.join("bodies.0000.cdat"), 3_000), "block "),
        (
            "missing",
            |path| fs::remove_file(path.join("receipts.0000.cdat")).unwrap(),
            "No such file",
        ),
        ("short", |path| cut(&path.join("bodies.0000.cdat"), 5_000), "ends before"),
        (
            "hashes",
            |path| flip(&path.join("hashes.0000.rdat"), 150 * 32 + 7),
            "block 150: header hash",
        ),
        ("index", |path| flip(&path.join("headers.cidx"), 6 * 150 + 2), "block 1"),
        // Another block's body in place of its own.
        ("swapped", |path| swap(&path.join("bodies.cidx")), "block "),
    ];
    for (name, damage, words) in cases {
        let ancient = geth.data(&format!("ancient {name}"));
        store.write(&ancient);
        damage(&ancient);
        let data = geth.data(&format!("data {name}"));
        let output = backfill(&geth, &data).path("--ancient", &ancient).run();
        let log = stderr_of(&output);
        assert!(output.status.success(), "{name}: {log}");
        let warnings: Vec<_> =
            log.lines().filter(|line| line.contains("the freezer failed")).collect();
        assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
        assert!(warnings[0].contains(words), "{name}: {}", warnings[0]);
        let (_, from_node) = blocks_read(&log);
        assert_eq!(from_node, 100, "{name}: {log}");
        assert_eq!(Published::open(&data).digests(), expected, "{name}");
        let quarantine = fs::read_dir(data.join("quarantine")).unwrap().count();
        assert_eq!(quarantine, 0, "{name}");
    }
}

pub fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

pub fn cut(path: &Path, length: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Moves an entry in the middle by one item: that item is empty, and the next one has two.
fn swap(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let entry = bytes[6 * 150..6 * 151].to_vec();
    bytes[6 * 151..6 * 152].copy_from_slice(&entry);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_store_of_another_chain_is_not_read() {
    let geth = Geth::start(Forks::OSAKA);
    geth.blocks(230, "ours");
    geth.finalize(220);
    let other = Geth::start(Forks { salt: 1, ..Forks::OSAKA });
    other.blocks(230, "other");
    let ancient = geth.data("ancient");
    Ancient::new(0, raw_blocks(&other, 220)).write(&ancient);
    let output = backfill(&geth, &geth.data("data")).path("--ancient", &ancient).run();
    let log = stderr_of(&output);
    assert!(output.status.success() && log.contains("is of another chain"), "{log}");
    assert_eq!(blocks_read(&log), (0, 200));

    // The same genesis and another branch: the node confirms the last block of each range.
    let branch = Geth::start(Forks::OSAKA);
    branch.blocks(150, "ours");
    branch.blocks(80, "branch");
    let ancient = geth.data("ancient of a branch");
    Ancient::new(0, raw_blocks(&branch, 220)).write(&ancient);
    let data = geth.data("data of a branch");
    let output = backfill(&geth, &data).path("--ancient", &ancient).run();
    let log = stderr_of(&output);
    assert!(output.status.success() && log.contains("on the node"), "{log}");
    assert_eq!(log.lines().filter(|line| line.contains("the freezer failed")).count(), 1, "{log}");
    let head = format!("{:?}", geth.block_of(199).hash);
    assert_eq!(
        Published::open(&data).value("SELECT hash FROM blocks WHERE number = 199"),
        Some(head)
    );
}

#[test]
fn a_store_that_is_not_found_is_said_once() {
    let directory = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 250, "");
    fake.chain().finalized = Some(240);
    let run = |name: &str| {
        let output = Spyhop::backfill(fake.path(), &directory.path().join(name))
            .args(&["--from", "0"])
            .run();
        assert!(output.status.success(), "{}", stderr_of(&output));
        stderr_of(&output)
    };
    let said = |log: &str| {
        log.lines().filter(|line| line.contains("history is read over geth's socket")).count()
    };
    // A node that does not know the call.
    let log = run("one");
    assert!(log.contains("does not say where") && said(&log) == 1, "{log}");
    // A node in a container of its own.
    fake.chain().datadir = Some("/not/in/this/container".into());
    let log = run("two");
    assert!(
        log.contains("no freezer found at `/not/in/this/container`") && said(&log) == 1,
        "{log}"
    );
    assert_eq!(blocks_read(&log), (0, 200));
    // The layout below a data directory, of now and of old.
    let blocks: Vec<_> = (0..=240)
        .map(|number| AncientBlock::from_raw(&fake.chain().block(number).unwrap()))
        .collect();
    for below in ["geth/chaindata/ancient/chain", "geth/chaindata/ancient"] {
        let datadir = directory.path().join("datadir").join(below.replace('/', "-"));
        Ancient::new(0, blocks.clone()).write(&datadir.join(below));
        fake.chain().datadir = Some(datadir);
        let log = run(&below.replace('/', "-"));
        assert_eq!((blocks_read(&log), said(&log)), ((200, 0), 0), "{log}");
    }
}

#[test]
fn an_index_put_in_the_place_of_another_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 99, "");
    let blocks = (0..=99)
        .map(|number| AncientBlock::from_raw(&fake.chain().block(number).unwrap()))
        .collect();
    let store = Ancient { file_bytes_max: 5_000, ..Ancient::new(0, blocks) };
    let path = directory.path().join("chain");
    store.write(&path);
    let mut freezer = Freezer::open(&path).unwrap();
    assert_eq!(freezer.extent().unwrap(), Some((0, 99)));
    let before = freezer.read(60, 69).unwrap().blocks;
    // As geth prunes: a new index is renamed over the old one, and data files are deleted.
    let pruned = directory.path().join("pruned");
    Ancient { tail: 50, ..store }.write(&pruned);
    for name in ["bodies.cidx", "receipts.cidx", "bodies.meta", "receipts.meta"] {
        fs::rename(pruned.join(name), path.join(name)).unwrap();
    }
    for entry in fs::read_dir(&path).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().unwrap_or_default() == "cdat"
            && !pruned.join(path.file_name().unwrap()).exists()
        {
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(freezer.extent().unwrap(), Some((50, 99)));
    let after = freezer.read(60, 69).unwrap().blocks;
    assert_eq!(after.len(), 10);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(
            (before.number, &before.body, &before.receipts),
            (after.number, &after.body, &after.receipts)
        );
    }
    // geth truncates blocks: the files end earlier.
    for name in ["headers.cidx", "bodies.cidx", "receipts.cidx"] {
        let length = fs::metadata(path.join(name)).unwrap().len();
        cut(&path.join(name), length - 6 * 10);
    }
    assert_eq!(freezer.extent().unwrap(), Some((50, 89)));
    let error = freezer.read(85, 95).unwrap_err().to_string();
    assert!(error.contains("is not in the table"), "{error}");
}

#[test]
fn a_hostile_store_cannot_fill_the_memory() {
    let directory = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 9, "");
    let blocks: Vec<_> = (0..=9)
        .map(|number| AncientBlock::from_raw(&fake.chain().block(number).unwrap()))
        .collect();
    let store = Ancient::new(0, blocks);
    store.write(directory.path());
    let read = || Freezer::open(directory.path()).unwrap().read(0, 9).unwrap_err().to_string();
    // An item of four billion bytes, by the index.
    let path = directory.path().join("bodies.cidx");
    let mut index = fs::read(&path).unwrap();
    index[6 * 10 + 2] = 0xff;
    fs::write(&path, index).unwrap();
    assert!(read().contains("block 9 is damaged"), "{}", read());
    store.write(directory.path());
    // A few bytes that claim to decompress to four billion.
    let path = directory.path().join("bodies.0000.cdat");
    let mut data = fs::read(&path).unwrap();
    data[..5].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    fs::write(&path, data).unwrap();
    assert!(read().contains("block 0 is damaged in the table bodies"), "{}", read());
}

#[test]
fn mainnet_blocks_from_a_freezer_equal_those_over_the_socket() {
    let Some(folder) = fixtures("portal") else { return };
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let part = |name: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
            const_hex::decode(line.trim()).unwrap()
        };
        let (header, body) = (part("header"), part("body"));
        // Theirs include the type, the freezer's do not.
        let receipts: Vec<_> = items(&part("receipts"))
            .into_iter()
            .map(|receipt| list(&items(receipt)[1..]))
            .collect();
        let receipts = list(&receipts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let raw_block = list(&[&[&header[..]], &items(&body)[..]].concat());
        let FakeBlock { number, hash, .. } = FakeBlock::from_raw(raw_block.clone(), Vec::new());
        let directory = tempfile::tempdir().unwrap();
        let block = AncientBlock { hash: hash.to_vec(), header, body, receipts };
        Ancient::new(number, vec![block]).write(directory.path());
        let schedule = BlobSchedule::default();
        let found = rows_of(directory.path(), number, number, &schedule).unwrap();

        let mut freezer = Freezer::open(directory.path()).unwrap();
        let Stored { header, body, receipts, .. } =
            freezer.read(number, number).unwrap().blocks.remove(0);
        // The receipts root has proved these.
        let raw_receipts =
            Block::decode_stored(header, body, &receipts, Depth::Hashes).unwrap().raw_receipts;
        let mut block = Block::decode(Bytes::from(raw_block), raw_receipts, Depth::Fields).unwrap();
        spyhop::recover::senders_of(&mut block).unwrap();
        let block = prove(block, &Expected { number, ..Expected::default() }, &schedule).unwrap();
        let mut batch = Batch::new(Options::default());
        batch.push(&block, &State::missing("not requested")).unwrap();
        assert!(found == batch.finish().unwrap(), "block {number}");
        checked += 1;
    }
    assert_eq!(checked, 6);
}

#[test]
fn tables_not_selected_are_not_stored_and_added_later_as_a_new_generation() {
    let mut geth = chain();
    let expected = over_the_socket(&geth);
    geth.freeze(320);
    let data = geth.data("data");
    let nowhere = geth.data("nowhere");
    let range = data.join("chain/first=0000000000/last=0000000099");
    let held = |generation: &str| {
        let mut names: Vec<_> = fs::read_dir(range.join(generation))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".parquet").map(str::to_owned))
            .collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(read(backfill(&geth, &data).args(&["--tables", "logs,blocks"])), (300, 0));
    assert_eq!(held("g1"), "blocks logs");
    let found = Published::open(&data);
    assert_eq!(found.digests()["logs"], expected["logs"]);
    assert_eq!(found.number("SELECT count(*) FROM transactions"), 0);
    let coverage = |found: &Published, table: &str| {
        let sql = format!(
            "SELECT first_block || '-' || last_block || ' ' || status || ' ' || coalesce(reason, \
            '') \
             FROM coverage WHERE table_name = '{table}' ORDER BY first_block"
        );
        let rows = found.rows(&format!(
            "SELECT string_agg(line, '; ') AS lines FROM ({sql}) AS all_lines(line)"
        ));
        rows[0]["lines"].clone().unwrap()
    };
    assert_eq!(coverage(&found, "logs"), "0-299 held ; 300-330 missing not read yet");
    assert_eq!(coverage(&found, "transactions"), "0-330 missing not requested");

    // Over the socket, one more.
    let more = backfill(&geth, &data)
        .args(&["--tables", "logs,blocks,uncles"])
        .path("--ancient", &nowhere);
    assert_eq!(read(more), (0, 300));
    assert_eq!(held("g2"), "blocks logs uncles");
    // All of them, from the freezer, and the head too.
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    assert_eq!(
        held("g3"),
        "address_flows balances blocks gas_blocks gas_flows large_transfers logs native_transfers \
        token_transfers tokens transactions uncles withdrawals"
    );
    let found = Published::open(&data);
    assert_eq!(found.check_prefix(0), Some(330));
    assert_eq!(coverage(&found, "transactions"), "0-330 held ");
    let whole = geth.data("whole");
    Spyhop::watch(&geth.socket(), &whole).args(&["--from", "0", "--once"]).succeed();
    assert_eq!(found.digests(), Published::open(&whole).digests());
    // Requesting fewer leaves stored ones alone.
    assert_eq!(read(backfill(&geth, &data).args(&["--tables", "logs"])), (0, 0));
    assert_eq!(
        Published::open(&data).number("SELECT count(*) FROM transactions WHERE block_number < 300"),
        {
            Published::open(&whole)
                .number("SELECT count(*) FROM transactions WHERE block_number < 300")
        }
    );
    let error = backfill(&geth, &data).args(&["--tables", "logs,nothing"]).fail(2);
    assert!(error.contains("there is no table `nothing`"), "{error}");
}

#[test]
fn backfill_and_watch_exclude_each_other_and_say_so() {
    let geth = Geth::start(Forks::OSAKA);
    geth.blocks(120, "base");
    geth.finalize(110);
    let data = geth.data("data");
    let mut watch = Spyhop::watch(&geth.socket(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["node found"]);
    let error = backfill(&geth, &data).fail(2);
    assert!(
        error.contains("another spyhop") && error.contains("`watch` builds history by itself"),
        "{error}"
    );
    watch.stop();
    backfill(&geth, &data).succeed();
    let error = backfill(&geth, &data).args(&["--from", "100", "--to", "50"]).run();
    assert_eq!(error.status.code(), Some(2), "{}", stderr_of(&error));
}

#[test]
fn backfill_builds_newest_or_oldest_first_and_only_requested_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 2_330, "");
    fake.chain().finalized = Some(2_250);
    let ancient = directory.path().join("ancient");
    let blocks = (0..=2_250)
        .map(|number| AncientBlock::from_raw(&fake.chain().block(number).unwrap()))
        .collect();
    Ancient::new(0, blocks).write(&ancient);
    let ranges = |arguments: &[&str]| {
        let data = directory.path().join(arguments.join(" "));
        let backfill = Spyhop::backfill(fake.path(), &data).path("--ancient", &ancient);
        let output = backfill.args(&["--workers", "1"]).args(arguments).run();
        let log = stderr_of(&output);
        assert!(output.status.success(), "{log}");
        let first =
            |line: &str| Some(line.split_once("read blocks ")?.1.split(' ').next()?.to_owned());
        log.lines().filter_map(first).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ranges(&["--from", "0"]), "2100 2000 1000 0");
    assert_eq!(ranges(&["--from", "0", "--order", "oldest"]), "0 1000 2000 2100");
    assert_eq!(ranges(&["--from", "950", "--to", "2049"]), "2000 1000 900");
}

#[test]
fn watch_newest_first_follows_the_head_at_once_and_never_shows_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 3_330, "");
    fake.chain().finalized = Some(3_320);
    let data = directory.path().join("data");
    // The node withholds one block of the lowest piece, and with it that piece.
    fake.fault(Fault::Hold, When::method("debug_getRawBlock").block(5));
    let mut watch =
        Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--order", "newest"]).spawn();
    let lowest = |data: &Path| {
        let found = Published::try_open(data).ok()?;
        let first = found.number("SELECT min(number) FROM blocks");
        found.check_prefix(first).map(|head| (first, head))
    };
    wait_for("the head, with history below it", || {
        (lowest(&data)? == (1_000, 3_330)).then_some(())
    });
    fake.release();
    wait_for("all of it", || (lowest(&data)? == (0, 3_330)).then_some(()));
    watch.stop();
}

#[test]
fn a_killed_backfill_goes_on_and_reads_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 6_100, "");
    fake.chain().finalized = Some(6_050);
    let ancient = directory.path().join("ancient");
    let blocks = (0..=6_050)
        .map(|number| AncientBlock::from_raw(&fake.chain().block(number).unwrap()))
        .collect();
    Ancient::new(0, blocks).write(&ancient);
    let data = directory.path().join("data");
    let backfill = || {
        Spyhop::backfill(fake.path(), &data).path("--ancient", &ancient).args(&[
            "--from",
            "0",
            "--workers",
            "2",
        ])
    };
    let mut running = backfill().spawn();
    for _ in 0..3 {
        running.wait_for(&["read blocks"]);
    }
    running.kill();
    let sealed: u64 = fs::read_dir(data.join("chain"))
        .unwrap()
        .flat_map(|first| fs::read_dir(first.unwrap().path()).unwrap())
        .map(|last| {
            let path = last.unwrap().path();
            let number = |name: &str| name.split_once('=').unwrap().1.parse::<u64>().unwrap();
            let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
            number(&name(&path)) - number(&name(path.parent().unwrap())) + 1
        })
        .sum();
    assert!(sealed >= 2_000, "{sealed}");
    assert_eq!(read(backfill()), (6_000 - sealed, 0));
    assert_eq!(Published::open(&data).check_prefix(0), Some(5_999));
    // Again: there is nothing to do.
    assert_eq!(read(backfill()), (0, 0));
}

#[test]
fn building_pauses_while_the_node_is_slow_to_answer() {
    let directory = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 2_330, "");
    fake.chain().finalized = Some(2_250);
    let data = directory.path().join("data");
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["enter", "phase=range"]);
    fake.fault(Fault::Hold, When::method("eth_getBlockByNumber").named("latest"));
    watch.wait_for(&["building pauses: the node is slow to answer"]);
    fake.release();
    watch.wait_for(&["building resumes"]);
    wait_for("all of it", || {
        let found = Published::try_open(&data).ok()?;
        (found.number("SELECT max(number) FROM blocks") == 2_330).then_some(())
    });
    watch.stop();
}

#[test]
fn a_node_without_a_head_is_read_from_its_store_and_anchored_later() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, other) = (directory.path().join("ours"), directory.path().join("other"));
    let nodes = [fake, other].map(|path| {
        fs::create_dir(&path).unwrap();
        FakeGeth::start(&path)
    });
    extend(&nodes[0], 330, "");
    extend(&nodes[1], 150, "");
    extend(&nodes[1], 330, "other");
    let ancient = directory.path().join("ancient");
    let all: Vec<_> = (0..=330).map(|number| nodes[0].chain().block(number).unwrap()).collect();
    let stored: Vec<_> = all[..=320].iter().map(|block| AncientBlock::from_raw(block)).collect();
    // In snap sync: blocks in the freezer, and no head.
    let [fake, other] = &nodes;
    fake.chain().rewind(0);
    Ancient::new(0, stored[..250].to_vec()).write(&ancient);
    let coverage = |data: &Path| {
        let found = Published::try_open(data).ok()?;
        let rows = found.try_rows(
            "SELECT first_block || '-' || last_block || ' ' || status || ' ' || coalesce(reason, \
            '') AS line \
             FROM coverage WHERE table_name = 'logs' ORDER BY first_block",
        );
        Some(
            rows.ok()?
                .into_iter()
                .map(|row| row["line"].clone().unwrap())
                .collect::<Vec<_>>()
                .join("; "),
        )
    };
    let data = directory.path().join("data");
    let watch = |fake: &FakeGeth| {
        Spyhop::watch(fake.path(), &data).path("--ancient", &ancient).args(&["--from", "0"])
    };
    let mut running = watch(fake).spawn();
    wait_for("what the store has", || {
        (coverage(&data)? == "0-199 held not yet anchored").then_some(())
    });
    Ancient::new(0, stored.clone()).write(&ancient);
    wait_for("what the store has by now", || {
        (coverage(&data)? == "0-299 held not yet anchored").then_some(())
    });
    running.stop();

    // A node that turns out to be on another chain.
    other.chain().finalized = Some(320);
    let complaint = watch(other).args(&["--once"]).fail(2);
    assert!(
        complaint.contains("contradicts what is sealed") && complaint.contains("--to 99"),
        "{complaint}"
    );

    let mut running = watch(fake).spawn();
    running.wait_for(&["not yet anchored"]);
    for block in all {
        fake.chain().push((*block).clone());
    }
    fake.chain().finalized = Some(320);
    wait_for("the head", || (coverage(&data)? == "0-330 held ").then_some(()));
    running.stop();
    assert_eq!(Published::open(&data).check_prefix(0), Some(330));
}
