//! Pruned history is read from era files, and no error in them gets through.

use crate::fake_geth::FakeBlock;
use crate::freezer::{
    backfill, blocks_read, chain, cut, flip, over_the_socket, raw_blocks, read, rows_from,
};
use crate::rig::geth::Archive;
use crate::rig::process::stderr_of;
use crate::rig::random::Random;
use crate::rig::{Ancient, AncientBlock, Forks, Geth, Plan, Published, Spyhop, fixtures};
use arrow::array::RecordBatch;
use serde_json::json;
use spyhop::decode::{Block, Depth};
use spyhop::freezer::{History, Places};
use spyhop::prove::{BlobSchedule, Expected, prove};
use spyhop::rows::{Batch, Options, State};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Removes bodies and receipts below `tail` from a stopped geth's freezer. `geth prune-history`
/// does that only to chains of more than 90,000 blocks.
fn prune(geth: &Geth, blocks: Vec<AncientBlock>, tail: u64) {
    let pruned = geth.data(&format!("pruned up to {tail}"));
    Ancient { tail, file_bytes_max: 30_000, ..Ancient::new(0, blocks) }.write(&pruned);
    let is_pruned = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        ["bodies.", "receipts.", "bals."].iter().any(|table| name.starts_with(table))
    };
    let files = |directory: &Path| {
        let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        paths.filter(|path| is_pruned(path)).collect::<Vec<_>>()
    };
    files(&geth.ancient()).iter().for_each(|path| fs::remove_file(path).unwrap());
    for path in files(&pruned) {
        fs::copy(&path, geth.ancient().join(path.file_name().unwrap())).unwrap();
    }
}

/// The single era file of a directory.
fn only_file(directory: &Path) -> PathBuf {
    let mut files = era_files(directory);
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn era_files(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "ere" || end == "era1")).collect()
}

/// The coverage of the logs.
fn coverage(data: &Path) -> Vec<String> {
    let rows = Published::open(data).rows(
        "SELECT first_block || '-' || last_block || ' ' || status || ' ' || coalesce(reason, '')
             AS line
         FROM coverage WHERE table_name = 'logs' ORDER BY first_block",
    );
    rows.into_iter().map(|row| row["line"].clone().unwrap()).collect()
}

#[test]
fn era_files_provide_pruned_history() {
    let mut geth = chain();
    let expected = over_the_socket(&geth);
    let blocks = raw_blocks(&geth, 320);
    geth.freeze(320);
    geth.stop();
    let eras = geth.data("eras");
    geth.export("ere", &eras, 0, 249);
    prune(&geth, blocks, 150);
    geth.restart();

    // Without them, pruned blocks are missing.
    let data = geth.data("without");
    let output = backfill(&geth, &data).run();
    assert!(output.status.success(), "{}", stderr_of(&output));
    let found = coverage(&data);
    assert!(found[0].starts_with("0-199 missing pruned history: "), "{found:?}");
    assert!(found[1].starts_with("200-299 held"), "{found:?}");

    // Where the operator keeps them; one range begins in the era file and ends in the freezer.
    let data = geth.data("elsewhere");
    let output = backfill(&geth, &data).path("--era", &eras).run();
    let log = stderr_of(&output);
    assert!(output.status.success() && log.contains("is read from the era files"), "{log}");
    assert_eq!(blocks_read(&log), (300, 0), "{log}");
    assert_eq!(Published::open(&data).digests(), expected);
    assert_eq!(Published::open(&data).check_prefix(0), Some(299));

    // Without the freezer: the era file's own genesis block identifies the chain.
    let data = geth.data("alone");
    let nowhere = geth.data("nowhere");
    assert_eq!(
        read(backfill(&geth, &data).path("--ancient", &nowhere).path("--era", &eras)),
        (200, 100)
    );
    assert_eq!(Published::open(&data).digests(), expected);

    // Next to the freezer, where geth keeps them.
    fs::create_dir(geth.ancient().join("era")).unwrap();
    let name = only_file(&eras);
    fs::copy(&name, geth.ancient().join("era").join(name.file_name().unwrap())).unwrap();
    let data = geth.data("beside");
    assert_eq!(read(backfill(&geth, &data)), (300, 0));
    assert_eq!(Published::open(&data).digests(), expected);
    assert_eq!(coverage(&data)[0].trim(), "0-299 held");
}

#[test]
fn blocks_neither_in_the_freezer_nor_in_an_era_file_are_in_coverage() {
    let mut geth = chain();
    let blocks = raw_blocks(&geth, 320);
    geth.freeze(320);
    geth.stop();
    let parts = [(0, 99), (100, 199), (200, 299)].map(|(first, last)| {
        let part = geth.data(&format!("part {first}"));
        geth.export("ere", &part, first, last);
        only_file(&part)
    });
    prune(&geth, blocks, 300);
    geth.restart();
    let other = Geth::start(Forks { salt: 1, ..Forks::OSAKA });
    other.blocks(199, "other");
    let mut other = other;
    other.stop();
    other.export("ere", &other.data("part"), 100, 199);
    let others = only_file(&other.data("part"));

    // The damage to the middle one, the log message, and the reason in `coverage`.
    type Damage<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Damage, &str, &str); 6] = [
        ("missing", &|path| fs::remove_file(path).unwrap(), "range is not stored", ""),
        ("short", &|path| cut(path, 20_000), "cannot be read", ""),
        ("no more than a beginning", &|path| cut(path, 8), "cannot be read", ""),
        ("flipped", &|path| flip(path, 20_000), "the freezer failed", "not in the files: block 1"),
        (
            "of another chain",
            &|path| assert!(fs::copy(&others, path).unwrap() > 0),
            "is of another chain",
            "",
        ),
        (
            "misnamed",
            &|path| rename(path, "unknown-00007-12345678-noproofs.ere"),
            "is not of epoch 7",
            "",
        ),
    ];
    for (name, damage, words, reason) in cases {
        let eras = geth.data(&format!("eras {name}"));
        let copies = parts.each_ref().map(|part| {
            let copy = eras.join(part.file_name().unwrap());
            fs::copy(part, &copy).unwrap();
            copy
        });
        damage(&copies[1]);
        let data = geth.data(&format!("data {name}"));
        let output = backfill(&geth, &data).path("--era", &eras).run();
        let log = stderr_of(&output);
        assert!(output.status.success() && log.contains(words), "{name}: {log}");
        assert_eq!(blocks_read(&log), (200, 0), "{name}: {log}");
        let found = coverage(&data);
        assert_eq!(found[0].trim(), "0-99 held", "{name}: {found:?}");
        assert!(found[1].starts_with("100-199 missing pruned history: "), "{name}: {found:?}");
        assert!(found[1].contains(reason), "{name}: {found:?}");
        assert_eq!(found[2].trim(), "200-299 held", "{name}: {found:?}");
        assert_eq!(
            log.lines().filter(|line| line.contains("cannot be read")).count(),
            usize::from(reason.is_empty() && name != "missing"),
            "{name}: {log}"
        );
    }

    // Era files of another chain, identified by nothing but their genesis block.
    other.export("ere", &other.data("whole"), 0, 199);
    let output = backfill(&geth, &geth.data("whole of another"))
        .path("--ancient", &geth.data("nowhere"))
        .path("--era", &other.data("whole"))
        .run();
    let log = stderr_of(&output);
    assert!(output.status.success() && log.contains("is of another chain, with genesis"), "{log}");
    assert_eq!(blocks_read(&log), (0, 0), "{log}");
}

fn rename(path: &Path, name: &str) {
    fs::rename(path, path.with_file_name(name)).unwrap();
}

/// The execution API's test chain, which begins before the merge, and blocks on top of it up to
/// 230: 0 to 199 can be sealed.
fn chain_from_before_the_merge() -> Option<(Geth, u64)> {
    let folder = fixtures("execution-apis")?;
    let geth =
        Geth::import(&folder.join("genesis.json"), &folder.join("chain.rlp"), Archive(false));
    geth.set_head(geth.head());
    for _ in geth.head().number..230 {
        geth.block(&Plan::default());
    }
    geth.finalize(220);
    let is_old = |number: u64| {
        let block = geth.call("eth_getBlockByNumber", json!([format!("{number:#x}"), false]));
        block["difficulty"] != "0x0"
    };
    let merge = (0..).find(|number| !is_old(*number)).unwrap();
    assert!(merge > 30, "{merge}");
    Some((geth, merge))
}

#[test]
fn era1_files_provide_pruned_history_from_before_the_merge() {
    let Some((mut geth, merge)) = chain_from_before_the_merge() else { return };
    let data = geth.data("over the socket");
    assert_eq!(read(backfill(&geth, &data).path("--ancient", &geth.data("nowhere"))), (0, 200));
    let expected = Published::open(&data).digests();
    let raw: Vec<_> = (0..=60).map(|number| raw_block(&geth, number)).collect();
    let blocks = raw_blocks(&geth, 220);
    geth.freeze(220);
    geth.stop();
    let schedule = BlobSchedule::default();
    for (format, last) in [("era1", merge - 1), ("ere", merge - 1), ("ere", merge + 10)] {
        let eras = geth.data(&format!("{format} up to {last}"));
        geth.export(format, &eras, 0, last);
        let found = rows_of_eras(&eras, 0, last, &schedule).unwrap();
        assert!(found == rows_of_raw(&raw[..=last as usize], &schedule), "{format} up to {last}");
    }
    // geth itself cannot export blocks from after the merge as era1.
    let output = geth.try_export("era1", &geth.data("too far"), 0, merge + 10);
    assert!(!output.status.success());
    assert_eq!(
        era_files(&geth.data("too far"))
            .iter()
            .filter(|path| !path.to_str().unwrap().contains("-00000000"))
            .count(),
        0
    );

    prune(&geth, blocks, merge);
    geth.restart();
    for (format, last) in [("era1", merge - 1), ("ere", merge + 10)] {
        let data = geth.data(&format!("data {format}"));
        let eras = geth.data(&format!("{format} up to {last}"));
        assert_eq!(read(backfill(&geth, &data).path("--era", &eras)), (200, 0), "{format}");
        assert_eq!(Published::open(&data).digests(), expected, "{format}");
    }
}

/// A block and its receipts, from the node's raw calls.
fn raw_block(geth: &Geth, number: u64) -> FakeBlock {
    let bytes = |value: &serde_json::Value| const_hex::decode(value.as_str().unwrap()).unwrap();
    let number = json!([format!("{number:#x}")]);
    let raw_block = bytes(&geth.call("debug_getRawBlock", number.clone()));
    let receipts = geth.call("debug_getRawReceipts", number);
    FakeBlock::from_raw(raw_block, receipts.as_array().unwrap().iter().map(bytes).collect())
}

/// The rows of blocks as read over the socket.
fn rows_of_raw(blocks: &[FakeBlock], schedule: &BlobSchedule) -> Vec<RecordBatch> {
    let mut batch = Batch::new(Options::default());
    for FakeBlock { number, raw_block, raw_receipts, .. } in blocks {
        let receipts = raw_receipts.iter().map(|raw| raw.clone().into()).collect();
        let mut block = Block::decode(raw_block.clone().into(), receipts, Depth::Fields).unwrap();
        spyhop::recover::senders_of(&mut block).unwrap();
        let block =
            prove(block, &Expected { number: *number, ..Expected::default() }, schedule).unwrap();
        batch.push(&block, &State::missing("not requested")).unwrap();
    }
    batch.finish().unwrap()
}

/// The rows of the blocks of era files, by the whole path from the files; or an error.
fn rows_of_eras(
    directory: &Path,
    first: u64,
    last: u64,
    schedule: &BlobSchedule,
) -> Result<Vec<RecordBatch>, String> {
    let mut history = History::open(&Places::new(None, Some(directory.to_owned())))
        .map_err(|error| error.to_string())?;
    let failures = history.look_at_eras().map_err(|error| error.to_string())?;
    let extents = history.extents().map_err(|error| error.to_string())?;
    if !extents.iter().any(|(from, to)| *from <= first && last <= *to) {
        return Err(format!("they hold {extents:?}: {failures:?}"));
    }
    rows_from(first, last, schedule, |first, last| history.read(first, last))
}

#[test]
fn every_flipped_bit_of_an_era_file_is_harmless_or_caught() {
    let mut geth = chain();
    geth.stop();
    let mut files = vec![("ere", geth.data("ere"), 44)];
    geth.export("ere", &files[0].1, 0, 44);
    let old = chain_from_before_the_merge();
    let old = old.map(|(mut geth, merge)| {
        geth.stop();
        geth.export("era1", &geth.data("era1"), 0, merge - 1);
        (geth, merge)
    });
    if let Some((geth, merge)) = &old {
        files.push(("era1", geth.data("era1"), merge - 1));
    }
    let schedule = BlobSchedule::default();
    let mut random = Random::new("every_flipped_bit_of_an_era_file_is_harmless_or_caught");
    for (format, directory, last) in files {
        let expected = rows_of_eras(&directory, 0, last, &schedule).unwrap();
        let path = only_file(&directory);
        let whole = fs::read(&path).unwrap();
        let (mut caught, mut harmless) = (0, 0);
        for flip in 0..500 {
            // A third of the flips in the index and what is just before it.
            let from = if flip % 3 == 0 { whole.len() - 1_500 } else { 0 };
            let at = random.within(from as u64..=whole.len() as u64 - 1) as usize;
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << random.within(0..=7);
            fs::write(&path, &flipped).unwrap();
            match rows_of_eras(&directory, 0, last, &schedule) {
                Err(_) => caught += 1,
                Ok(rows) => {
                    assert!(rows == expected, "{format}: flip {flip}: byte {at} got through");
                    harmless += 1;
                }
            }
        }
        // And every truncated length.
        for length in (0..whole.len()).step_by(997) {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(
                rows_of_eras(&directory, 0, last, &schedule).is_err(),
                "{format} of {length} bytes"
            );
        }
        println!("{format}: {caught} caught, {harmless} harmless");
        // In `era1`, total difficulties and the accumulator are not read: a third of these small
        // blocks.
        assert!(caught > harmless, "{format}: {caught} caught, {harmless} harmless");
    }
}

/// An entry of an era file.
fn entry(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), &[0, 0], payload].concat()
}

/// Numbers as encoded in an index.
fn numbers(numbers: &[i64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn framed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(plain).unwrap();
    encoder.into_inner().unwrap()
}

#[test]
fn a_hostile_era_file_is_an_error_and_cannot_fill_the_memory() {
    let directory = tempfile::tempdir().unwrap();
    let (version, head) = (entry(0x3265, &[]), entry(3, &framed(b"\xc0")));
    let start = version.len() as i64;
    let before = |parts: &[&[u8]]| [&version, parts.concat().as_slice()].concat();
    let era1 = |parts: &[&[u8]]| {
        let blocks = before(parts);
        let index = numbers(&[0, start - blocks.len() as i64, 1]);
        ("era1", [blocks, entry(0x3266, &index)].concat())
    };
    let ere = |index: &[i64]| ("ere", [before(&[&head]), entry(0x3267, &numbers(index))].concat());
    // Two hundred megabytes of zeroes.
    let bomb = entry(4, &framed(&vec![0; 200 << 20]));
    assert!(bomb.len() < 12 << 20, "{}", bomb.len());
    let far = u64::MAX as i64;
    let cases: Vec<((&str, Vec<u8>), &str)> = vec![
        (era1(&[&head, &bomb, &entry(5, &framed(b"\xc0"))]), "decompress to more than"),
        (era1(&[&head]), "is an entry of type 0x3266"),
        (era1(&[&head, &head, &head]), "is an entry of type 0x3"),
        (era1(&[&head, &entry(4, &framed(b"\xc1")), &entry(5, b"no frame")]), "block 0 is damaged"),
        (
            era1(&[&head, &entry(4, &framed(b"\xc0")), &entry(5, &framed(b"\xc3\xb8"))]),
            "block 0 is damaged",
        ),
        (
            era1(&[&head, &entry(4, &framed(b"\xc0")), &entry(5, &framed(b"\xc2\x01\x80"))]),
            "block 0 is damaged",
        ),
        (era1(&[&[3, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]]), "with 4294967295 bytes"),
        (era1(&[&[3, 0, 0, 0, 0, 0, 1, 0]]), "is an entry"),
        (
            ("era1", [version.clone(), entry(0x3266, &numbers(&[0, -8, i64::MAX]))].concat()),
            "is incomplete",
        ),
        (
            ("era1", [version.clone(), entry(0x3266, &numbers(&[0, -8, 8_192]))].concat()),
            "larger than the file",
        ),
        (
            ("era1", [version.clone(), entry(0x3266, &numbers(&[far, -8, 1]))].concat()),
            "begins at block",
        ),
        (
            ("era1", [version.clone(), entry(0x3266, &numbers(&[0, i64::MIN, 1]))].concat()),
            "from the index",
        ),
        (
            ("era1", [version.clone(), entry(0x3266, &numbers(&[0, 8, 1]))].concat()),
            "from the index",
        ),
        (
            ("era1", [version.clone(), entry(0x3267, &numbers(&[0, -8, 1]))].concat()),
            "is an entry of type 0x3267",
        ),
        (("era1", Vec::new()), "is damaged"),
        (("ere", version.clone()), "is damaged"),
        (ere(&[0, -8, far, 1]), "is wrong"),
        (ere(&[0, -8, 0, 1]), "is wrong"),
        (ere(&[0, -26, 1, 0]), "is wrong"),
        (ere(&[0, 1 << 40, -26, -26, 3, 1]), "from the index"),
        (
            ere(&[0, -(head.len() as i64), -(head.len() as i64), -(head.len() as i64), 3, 1]),
            "it has no bodies",
        ),
        // A header and a body, as geth exports them without receipts: nothing is damaged.
        (
            ("ere", {
                let (body, parts) =
                    (entry(4, &framed(b"\xc0")), before(&[&head, &entry(4, &framed(b"\xc0"))]));
                let places = [-((head.len() + body.len()) as i64), -(body.len() as i64)];
                [parts, entry(0x3267, &numbers(&[0, places[0], places[1], 2, 1]))].concat()
            }),
            "was written without receipts",
        ),
    ];
    for (index, ((format, bytes), words)) in cases.into_iter().enumerate() {
        let eras = directory.path().join(format!("{index}"));
        fs::create_dir(&eras).unwrap();
        fs::write(eras.join(format!("mainnet-00000-12345678.{format}")), bytes).unwrap();
        let error = rows_of_eras(&eras, 0, 0, &BlobSchedule::default()).unwrap_err();
        assert!(error.contains(words) && error.contains("mainnet-00000"), "{index}: {error}");
    }
    // Files with other names are ignored.
    let eras = directory.path().join("others");
    fs::create_dir(&eras).unwrap();
    for name in [
        "checksums.txt",
        "mainnet-00000.era1",
        "mainnet-x-12345678.era1",
        "a-00000-00000000-noproofs.ere",
    ] {
        fs::write(eras.join(name), "no era file").unwrap();
    }
    let error = rows_of_eras(&eras, 0, 0, &BlobSchedule::default()).unwrap_err();
    assert_eq!(error, "they hold []: []");
}

#[test]
fn an_era_directory_that_is_not_there_changes_nothing() {
    let geth = Geth::start(Forks::OSAKA);
    geth.blocks(130, "ours");
    geth.finalize(120);
    let data = geth.data("data");
    let backfill = Spyhop::backfill(&geth.socket(), &data).args(&["--from", "0"]);
    let (nowhere, not_there) = (geth.data("nowhere"), geth.data("nowhere").join("eras"));
    assert_eq!(read(backfill.path("--ancient", &nowhere).path("--era", &not_there)), (0, 100));
}
