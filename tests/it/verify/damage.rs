//! Damage on the volume: nothing is built from it, it is listed, it is rebuilt, and the head is
//! followed meanwhile.

use super::{one_fault, range, three_ranges, verify};
use crate::fake_geth::FakeGeth;
use crate::lying_node::{extend, once};
use crate::rig::process::{listing, until};
use crate::rig::{Published, Running, Spyhop};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Flips a bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).unwrap();
}

fn quarantined(data: &Path) -> Vec<PathBuf> {
    listing(&data.join("quarantine")).into_iter().map(|(path, _)| path).collect()
}

#[track_caller]
fn is_quarantined(data: &Path, part: &str) {
    let found = quarantined(data);
    assert!(found.iter().any(|path| path.to_string_lossy().contains(part)), "{part} in {found:?}");
}

fn status(data: &Path) -> (Option<i32>, String) {
    let output = Spyhop::new("status").path("--data", data).run();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// A volume with nine sealed ranges of 100, and a node that has blocks for the tenth, so that they
/// merge.
fn nine_hundreds(directory: &Path) -> (FakeGeth, PathBuf) {
    let data = directory.join("data");
    let fake = FakeGeth::start(directory);
    extend(&fake, 950, "");
    fake.chain().finalized = Some(920);
    once(&fake, &data).succeed();
    extend(&fake, 1_020, "");
    fake.chain().finalized = Some(1_010);
    (fake, data)
}

fn undisturbed(fake: &FakeGeth, directory: &Path) -> BTreeMap<&'static str, String> {
    let data = directory.join("undisturbed");
    once(fake, &data).succeed();
    Published::open(&data).digests()
}

#[test]
fn a_merge_reads_nothing_whose_checksum_does_not_hold() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = nine_hundreds(directory.path());
    for (first, table) in
        [(100, "blocks"), (300, "address_flows"), (400, "logs"), (700, "native_transfers")]
    {
        flip(&range(&data, first, 1).join(format!("{table}.parquet")));
    }
    once(&fake, &data).succeed();
    for first in [100, 300, 400, 700] {
        is_quarantined(
            &data,
            &format!("first={first:010}/last={:010}/g1/manifest.json", first + 99),
        );
    }
    assert!(
        data.join("chain/first=0000000000/last=0000000999/g1/manifest.json").exists(),
        "{:?}",
        quarantined(&data)
    );
    verify(&data).args(&["--deep"]).path("--ipc", fake.path()).succeed();
    assert_eq!(Published::open(&data).digests(), undisturbed(&fake, directory.path()));
}

#[test]
fn a_damaged_range_is_named_while_the_head_is_followed_and_then_built_again() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = nine_hundreds(directory.path());
    flip(&range(&data, 300, 1).join("blocks.parquet"));
    // The node cannot provide these blocks for now.
    fake.chain().pruned_below = 500;
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["damaged, and moved to quarantine", "first=0000000300"]);
    let named = "SELECT count(*) FROM coverage WHERE table_name = 'blocks' AND status = 'missing' \
        AND first_block = 300 AND last_block = 399";
    until_number(&mut watch, &data, named, 1);
    extend(&fake, 1_040, "");
    until_number(&mut watch, &data, "SELECT max(number) FROM blocks", 1_040);
    assert_eq!(Published::open(&data).number("SELECT count(*) FROM blocks"), 1_041 - 100);
    watch.stop();
    // A new process knows what to rebuild, even if it would not request that much.
    fake.chain().pruned_below = 0;
    Spyhop::watch(fake.path(), &data).args(&["--from", "-100", "--once"]).succeed();
    assert_eq!(Published::open(&data).check_prefix(0), Some(1_040));
    verify(&data).args(&["--deep"]).path("--ipc", fake.path()).succeed();
}

#[track_caller]
fn until_number(watch: &mut Running, data: &Path, sql: &str, expected: u64) {
    until(watch, &format!("{sql} = {expected}"), || {
        (Published::try_open(data).ok()?.number(sql) == expected).then_some(())
    });
}

/// Waits for a head to be published, ignoring unreadable files.
#[track_caller]
fn until_head(watch: &mut Running, data: &Path, expected: u64) {
    until(watch, &format!("head {expected}"), || {
        (Published::try_open(data).ok()?.head()?.0 == expected).then_some(())
    });
}

#[test]
fn damage_between_two_starts_is_found_by_verify_and_repaired_by_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = three_ranges(directory.path());
    // A reorganisation, for its record.
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["node found"]);
    fake.chain().rewind(345);
    extend(&fake, 352, "other");
    watch.wait_for(&["reorganisation of"]);
    watch.wait_for(&["tip=352"]);
    watch.stop();
    let good = Published::open(&data).digests();
    let sealed = range(&data, 100, 1);
    let manifest = sealed.join("manifest.json");
    let pending = data.join(".spyhop/reorgs/0000000007.pending");
    let record = data.join(".spyhop/reorgs/0000000000.json");
    assert!(record.exists());
    // The file, its damage, and the message of `verify`; empty if a starting writer has to report
    // it.
    type Damage = fn(&Path);
    let garble: Damage = |path| fs::write(path, "{\"what").unwrap();
    let empty: Damage = |path| fs::write(path, "").unwrap();
    let digit: Damage = |path| {
        let text = fs::read_to_string(path).unwrap();
        let at = text.rfind("0x").unwrap() + 5;
        let other = if &text[at..at + 1] == "a" { "b" } else { "a" };
        fs::write(path, format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    };
    let remove: Damage = |path| fs::remove_file(path).unwrap();
    let directory_there: Damage = |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    };
    let chain = data.join(".spyhop/chain.json");
    let tail_files = spyhop::store::tail::paths(&data).unwrap();
    let heartbeat = data.join(".spyhop/heartbeat");
    let published = data.join("spyhop.duckdb");
    let cases: &[(&Path, Damage, &str)] = &[
        (&chain, empty, ".spyhop/chain.json: record"),
        (&chain, garble, ".spyhop/chain.json: record"),
        (&chain, digit, ".spyhop/chain.json: record"),
        (&chain, remove, ".spyhop/chain.json: file"),
        (&tail_files[tail_files.len() / 2], directory_there, ""),
        (&pending, garble, ".spyhop/reorgs/0000000007.pending: record"),
        (&heartbeat, empty, ".spyhop/heartbeat: record"),
        (&heartbeat, directory_there, ".spyhop/heartbeat: record"),
        (&published, empty, ""),
        (&published, flip, "spyhop.duckdb: file"),
        (&published, directory_there, "spyhop.duckdb: file"),
        (&manifest, garble, "g1/manifest.json: manifest"),
        (&range(&data, 200, 1).join("manifest.json"), digit, "g1/manifest.json: manifest"),
        (&range(&data, 0, 1).join("manifest.json"), remove, "g1/manifest.json: manifest"),
        (&range(&data, 100, 2).join("logs.parquet"), remove, "logs.parquet: file"),
        (&range(&data, 200, 2).join("logs.parquet"), empty, "logs.parquet: BLAKE3"),
    ];
    for (path, damage, said) in cases {
        damage(path);
        let shown = path.display();
        if !said.is_empty() {
            let fault = one_fault(verify(&data));
            assert!(fault.contains(said), "{shown}: {fault}");
        }
        let (_, status) = status(&data);
        assert!(status.contains("chain        1337"), "{shown}: {status}");
        once(&fake, &data).succeed();
        verify(&data).args(&["--deep"]).path("--ipc", fake.path()).succeed();
        assert_eq!(Published::open(&data).digests(), good, "{shown}");
    }
    // A deleted record is reported, though it is the newest, so that no number is left out.
    let saved = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    let lost = "SELECT count(*) FROM coverage WHERE table_name = 'reorgs' AND status = 'partial'";
    once(&fake, &data).succeed();
    assert_eq!(Published::open(&data).number(lost), 1);
    fs::write(&record, saved).unwrap();
    once(&fake, &data).succeed();
    assert_eq!(Published::open(&data).digests(), good);
    // The content of a record is lost, and that is reported.
    digit(&record);
    assert!(one_fault(verify(&data)).contains(".spyhop/reorgs/0000000000.json: record"));
    once(&fake, &data).succeed();
    is_quarantined(&data, ".spyhop/reorgs/0000000000.json");
    assert!(
        status(&data).1.contains("lost         the record of a reorganisation"),
        "{}",
        status(&data).1
    );
    assert_eq!(Published::open(&data).number(lost), 1);
    let printed = verify(&data).succeed();
    assert!(
        printed.contains("records of reorganisations, which were damaged or deleted"),
        "{printed}"
    );
}

#[test]
fn one_repair_fixes_damage_of_every_kind() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = three_ranges(directory.path());
    let good = Published::open(&data).digests();
    flip(&range(&data, 0, 1).join("blocks.parquet"));
    fs::remove_file(range(&data, 100, 1).join("logs.parquet")).unwrap();
    fs::write(range(&data, 200, 1).join("manifest.json"), "").unwrap();
    fs::write(data.join(".spyhop/chain.json"), "").unwrap();
    fs::write(data.join(".spyhop/heartbeat"), "").unwrap();
    fs::write(data.join(".spyhop/reorgs/0000000000.json"), "").unwrap();
    fs::write(data.join(".spyhop/reorgs/0000000001.pending"), "").unwrap();
    fs::create_dir_all(data.join("whales/0000000299-0123456789abcdef")).unwrap();
    fs::write(data.join("whales/0000000299-0123456789abcdef/manifest.json"), "{").unwrap();
    flip(&data.join("spyhop.duckdb"));
    verify(&data).fail(1);
    let printed = verify(&data).args(&["--repair"]).path("--ipc", fake.path()).succeed();
    assert!(printed.contains(": 0 faults\nnot stored: 2 records of reorganisations"), "{printed}");
    assert_eq!(Published::open(&data).digests(), good);
    once(&fake, &data).succeed();
    verify(&data).args(&["--deep"]).path("--ipc", fake.path()).succeed();
    assert_eq!(Published::open(&data).digests(), good);
}

#[test]
fn another_chain_is_refused_even_without_a_chain_record() {
    let directory = tempfile::tempdir().unwrap();
    let (_fake, data) = three_ranges(directory.path());
    let strange = tempfile::tempdir().unwrap();
    let other = FakeGeth::start(strange.path());
    extend(&other, 400, "other");
    other.chain().finalized = Some(320);
    let sealed = listing(&data.join("chain"));
    fs::write(data.join(".spyhop/chain.json"), "").unwrap();
    let complaint = once(&other, &data).fail(2);
    assert!(complaint.contains("the node is on chain 1337 with genesis"), "{complaint}");
    // Nothing is sealed: the tail's blocks show it.
    fs::remove_dir_all(data.join("chain")).unwrap();
    fs::write(data.join(".spyhop/chain.json"), "").unwrap();
    let tail = listing(&data.join("tail"));
    let complaint = once(&other, &data).fail(2);
    assert!(complaint.contains("the node does not have"), "{complaint}");
    assert_eq!(listing(&data.join("tail")), tail);
    assert_ne!(sealed, listing(&data.join("chain")));
}

#[test]
fn a_tail_file_and_a_chunk_damaged_while_published_are_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    let arguments = ["--from", "0", "--finality-depth", "100000"];
    for head in [400, 800] {
        extend(&fake, head, "");
        Spyhop::watch(fake.path(), &data).args(&arguments).args(&["--once"]).succeed();
    }
    extend(&fake, 1_150, "");
    let mut watch = Spyhop::watch(fake.path(), &data).args(&arguments).spawn();
    until_head(&mut watch, &data, 1_150);
    let chunk = fs::read_dir(data.join("tail/first=0000000000/last=0000000099"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    // The published file, a tail chunk and a tail file, in this order; and the head advances.
    flip(&data.join("spyhop.duckdb"));
    flip(&chunk.join("blocks.parquet"));
    extend(&fake, 1_151, "");
    until_head(&mut watch, &data, 1_151);
    let tail = fs::read_dir(data.join("tail")).unwrap().map(|entry| entry.unwrap().path());
    let file =
        tail.into_iter().find(|path| path.to_string_lossy().contains("tail/0000001120-")).unwrap();
    flip(&file);
    // Publishing starts from scratch, from the tail's files.
    fs::write(data.join("spyhop.duckdb"), "").unwrap();
    extend(&fake, 1_152, "");
    until_head(&mut watch, &data, 1_152);
    watch.stop();
    is_quarantined(&data, "tail/0000001120-");
    verify(&data).args(&["--deep"]).succeed();
    assert_eq!(Published::open(&data).check_prefix(0), Some(1_152));
}

#[test]
fn a_merge_that_fails_costs_that_merge_only() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = nine_hundreds(directory.path());
    // Something is in the way of the merged range.
    let place = data.join("chain/first=0000000000/last=0000000999");
    fs::write(&place, "in the way").unwrap();
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["merging ranges failed"]);
    extend(&fake, 1_040, "");
    until_number(&mut watch, &data, "SELECT max(number) FROM blocks", 1_040);
    let (code, said) = status(&data);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("blocks 0 to 999 could not be merged, will be retried"), "{said}");
    watch.stop();
    assert_eq!(Published::open(&data).check_prefix(0), Some(1_040));
    fs::remove_file(place).unwrap();
    once(&fake, &data).succeed();
    assert!(data.join("chain/first=0000000000/last=0000000999/g1/manifest.json").exists());
    assert_eq!(Published::open(&data).check_prefix(0), Some(1_040));
    verify(&data).succeed();
}
