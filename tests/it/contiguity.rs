//! Stored blocks are one run up to the tip: lost ones are restored, and listed until then.

use crate::fake_geth::FakeGeth;
use crate::lying_node::{extend, once};
use crate::rig::process::{listing, stderr_of};
use crate::rig::{Forks, Geth, Published, Spyhop};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A fake node with blocks 0 to 350, of which 320 is finalized, and a volume of it.
fn sealed_and_tail(directory: &Path) -> (FakeGeth, PathBuf) {
    let fake = FakeGeth::start(directory);
    extend(&fake, 350, "");
    fake.chain().finalized = Some(320);
    let data = directory.join("data");
    once(&fake, &data).succeed();
    (fake, data)
}

/// The file of a block of the tail.
fn tail_file(data: &Path, number: u64) -> PathBuf {
    let name = format!("{number:010}-");
    let mut files = fs::read_dir(data.join("tail")).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&name)).unwrap()
}

/// Exit code and all output of a command that reads a volume.
fn look(command: &str, data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Spyhop::new(command).path("--data", data).args(arguments).run();
    (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap() + &stderr_of(&output))
}

#[test]
fn a_missing_block_of_the_tail_is_named_and_only_it_is_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = sealed_and_tail(directory.path());
    let before = (listing(&data.join("tail")), Published::open(&data).digests());
    // At its lower end, within it, and more than one request at once.
    for lost in [300..=300, 320..=320, 300..=300, 301..=340] {
        let mut named = String::new();
        for number in lost.clone() {
            fs::remove_file(tail_file(&data, number)).unwrap();
            named = format!("blocks {} to {}", lost.start(), number);
        }
        let (code, said) = look("status", &data, &[]);
        assert!(
            code == Some(1) && said.contains(&named) && said.contains("spyhop watch"),
            "{lost:?}: {said}"
        );
        let (code, said) = look("verify", &data, &[]);
        assert!(code == Some(1) && said.contains(&named), "{lost:?}: {said}");

        let asked = fake.counts().of("debug_getRawBlock");
        once(&fake, &data).succeed();
        assert_eq!(fake.counts().of("debug_getRawBlock") - asked, lost.count() as u64, "{named}");
        assert_eq!(
            (listing(&data.join("tail")), Published::open(&data).digests()),
            before,
            "{named}"
        );
        assert_eq!(look("status", &data, &[]).0, Some(0));
        assert_eq!(look("verify", &data, &["--deep"]).0, Some(0));
    }
}

#[test]
fn a_lost_hundred_comes_back_whether_or_not_it_is_final() {
    for finalized in [None, Some(99), Some(150), Some(320)] {
        let directory = tempfile::tempdir().unwrap();
        let fake = FakeGeth::start(directory.path());
        extend(&fake, 350, "");
        let data = directory.path().join("data");
        // The settings reveal neither the first requested block nor where the tail begins.
        let run = |from: &str| Spyhop::watch(fake.path(), &data).args(&["--from", from, "--once"]);
        run("-300").succeed();
        let before = Published::open(&data).digests();
        for number in 0..=199 {
            fs::remove_file(tail_file(&data, number)).unwrap();
        }
        fake.chain().finalized = finalized;
        let (code, said) = look("status", &data, &[]);
        assert!(code == Some(1) && said.contains("blocks 0 to 199"), "{said}");
        run("-50").succeed();
        assert_eq!(Published::open(&data).digests(), before, "{finalized:?}");
        assert_eq!(look("status", &data, &[]).0, Some(0));
    }
}

#[test]
fn a_lost_range_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = sealed_and_tail(directory.path());
    let before = Published::open(&data).digests();
    for first in [0, 100, 200] {
        fs::remove_dir_all(data.join(format!("chain/first={first:010}"))).unwrap();
        let (code, said) = look("status", &data, &[]);
        assert!(
            code == Some(1) && said.contains(&format!("blocks {first} to {}", first + 99)),
            "{said}"
        );
        Spyhop::watch(fake.path(), &data).args(&["--from", "-10", "--once"]).succeed();
        assert_eq!(Published::open(&data).digests(), before);
        assert_eq!(look("status", &data, &[]).0, Some(0));
    }
}

#[test]
fn pruned_blocks_of_the_tail_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = sealed_and_tail(directory.path());
    fs::remove_file(tail_file(&data, 310)).unwrap();
    fake.chain().pruned_below = 320;
    once(&fake, &data).succeed();
    let found = Published::open(&data);
    let sql =
        "SELECT first_block || '-' || last_block || ' ' || status || coalesce(' ' || reason, '')
            AS line
        FROM coverage
        WHERE table_name = 'blocks'
        ORDER BY first_block";
    let lines: Vec<_> = found.rows(sql).iter().map(|row| row["line"].clone().unwrap()).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!((&lines[0][..], &lines[2][..]), ("0-299 held", "311-350 held"));
    assert!(lines[1].starts_with("300-310 missing pruned history"), "{lines:?}");
    // It was not deleted for that.
    fake.chain().pruned_below = 0;
    let asked = fake.counts().of("debug_getRawBlock");
    once(&fake, &data).succeed();
    assert_eq!(fake.counts().of("debug_getRawBlock") - asked, 1);
    assert_eq!(Published::open(&data).check_prefix(0), Some(350));
}

#[test]
fn a_file_of_the_tail_that_cannot_be_read_is_not_a_damaged_one() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = sealed_and_tail(directory.path());
    let (file, before) = (tail_file(&data, 320), listing(&data.join("tail")));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let said = once(&fake, &data).without_capabilities().fail(1);
    assert!(
        said.contains("failed to read, nothing was touched") && said.contains("Permission denied"),
        "{said}"
    );
    assert!(said.contains(file.to_str().unwrap()) && said.contains("move it away"), "{said}");
    assert_eq!(fs::read_dir(data.join("quarantine")).unwrap().count(), 0);
    assert_eq!(listing(&data.join("tail")), before);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let asked = fake.counts().of("debug_getRawBlock");
    once(&fake, &data).succeed();
    assert_eq!(fake.counts().of("debug_getRawBlock"), asked);
}

#[test]
fn repeated_damage_is_quarantined_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = sealed_and_tail(directory.path());
    let before = listing(&data.join("tail"));
    let file = tail_file(&data, 310);
    for count in 1..=3 {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        once(&fake, &data).succeed();
        assert_eq!(listing(&data.join("tail")), before);
        let found = listing(&data.join("quarantine")).len();
        assert_eq!(found, count, "files in quarantine");
    }
    // An intact file under another's name is no better.
    fs::copy(tail_file(&data, 311), &file).unwrap();
    once(&fake, &data).succeed();
    assert_eq!(listing(&data.join("tail")), before);
}

#[test]
fn state_of_a_lost_block_is_requested_while_the_node_has_it() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    let run = || Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    geth.blocks(20, "");
    run();
    geth.blocks(160, "");
    run();
    let balances = |number: u64| {
        let order = format!(
            "SELECT address, asset, balance
            FROM balances
            WHERE block_number = {number}
            ORDER BY ALL"
        );
        Published::open(&data).rows(&order)
    };
    let reason = |number: u64| {
        let covered =
            format!("table_name = 'balances' AND {number} BETWEEN first_block AND last_block");
        Published::open(&data).value(&format!("SELECT reason FROM coverage WHERE {covered}"))
    };
    let (old, new) = (balances(10), balances(170));
    assert!(!old.is_empty() && !new.is_empty());
    for number in [10, 170] {
        fs::remove_file(tail_file(&data, number)).unwrap();
    }
    run();
    assert_eq!(Published::open(&data).check_prefix(0), Some(180));
    assert_eq!((balances(170), reason(170)), (new, None));
    assert_eq!(balances(10), []);
    assert_eq!(reason(10).as_deref(), Some("the node does not serve state that old"));
    assert_eq!((balances(9).len(), reason(9)), (old.len(), None));
}

/// A volume whose range 100 to 199 is of another branch.
fn of_two_branches(directory: &Path) -> (FakeGeth, PathBuf) {
    let (fake, data) = sealed_and_tail(directory);
    let other = directory.join("other");
    let chain = fake.chain().clone();
    fake.chain().rewind(120);
    extend(&fake, 350, "other");
    once(&fake, &other).succeed();
    *fake.chain() = chain;
    let range = "chain/first=0000000100/last=0000000199/g1";
    fs::remove_dir_all(data.join(range)).unwrap();
    let copied =
        Command::new("cp").arg("-r").arg(other.join(range)).arg(data.join(range)).status().unwrap();
    assert!(copied.success());
    (fake, data)
}

#[test]
fn ranges_that_do_not_link_are_refused_at_every_start() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = of_two_branches(directory.path());
    let before = listing(&data.join("chain"));
    for _ in 0..3 {
        let said = once(&fake, &data).fail(2);
        assert!(
            said.contains("sealed blocks 200 to 299 do not link") && said.contains("hint: "),
            "{said}"
        );
        assert_eq!(listing(&data.join("chain")), before);
    }
    // A range that was lost between two others, to which its blocks do not link.
    fs::remove_dir_all(data.join("chain/first=0000000200")).unwrap();
    let before = listing(&data.join("chain"));
    for _ in 0..3 {
        let said = once(&fake, &data).fail(2);
        assert!(
            said.contains("contradicts") && said.contains("rewind") && said.contains("--to 99"),
            "{said}"
        );
        assert_eq!(listing(&data.join("chain")), before);
    }
    Spyhop::new("rewind").path("--data", &data).args(&["--to", "99"]).succeed();
    once(&fake, &data).succeed();
    assert_eq!(Published::open(&data).check_prefix(0), Some(350));
}

#[test]
fn a_tail_that_does_not_link_to_the_sealed_ranges_is_not_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = sealed_and_tail(directory.path());
    let before = (listing(&data.join("tail")), Published::open(&data).digests());
    let other = directory.path().join("other");
    let chain = fake.chain().clone();
    fake.chain().rewind(120);
    extend(&fake, 350, "other");
    once(&fake, &other).succeed();
    *fake.chain() = chain;
    fs::remove_dir_all(data.join("tail")).unwrap();
    assert!(
        Command::new("cp").arg("-r").arg(other.join("tail")).arg(&data).status().unwrap().success()
    );
    once(&fake, &data).succeed();
    assert_eq!((listing(&data.join("tail")), Published::open(&data).digests()), before);
    assert_eq!(listing(&data.join("quarantine")).len(), 51);
}

#[test]
fn rewind_also_moves_superseded_ranges() {
    let directory = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 1_010, "");
    let data = directory.path().join("data");
    // In hundreds, which are then merged.
    for finalized in [950, 1_000] {
        fake.chain().finalized = Some(finalized);
        once(&fake, &data).succeed();
    }
    assert!(
        data.join("chain/first=0000000000/last=0000000099").exists(),
        "the merged hundreds are still there"
    );
    Spyhop::new("rewind").path("--data", &data).args(&["--to", "550"]).succeed();
    assert_eq!(listing(&data.join("chain")), []);
    once(&fake, &data).succeed();
    assert_eq!(Published::open(&data).check_prefix(0), Some(1_010));
}

#[test]
fn rewind_may_be_killed_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let (fake, data) = sealed_and_tail(directory.path());
    let before = Published::open(&data).digests();
    let mut halves = 0;
    for kill in 0..16 {
        let mut rewind = Spyhop::new("rewind").path("--data", &data).args(&["--to", "120"]).spawn();
        std::thread::sleep(Duration::from_millis(2 * kill));
        rewind.kill();
        let sealed = spyhop::store::read_ranges(&data).unwrap().len() as u64;
        let tail = spyhop::store::tail::paths(&data).unwrap();
        let numbers: Vec<_> =
            tail.iter().filter_map(|path| spyhop::store::tail::number_of(path)).collect();
        let expected: Vec<_> = (300..300 + numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "the tail is a run of blocks");
        assert!(sealed == 3 || numbers.is_empty(), "{sealed} ranges, {numbers:?}");
        halves += u32::from((1..51).contains(&numbers.len()));
        once(&fake, &data).succeed();
        assert_eq!(Published::open(&data).digests(), before);
    }
    eprintln!("killed within the tail: {halves} times");
}
