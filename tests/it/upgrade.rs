//! A volume of an earlier version is upgraded. The one in `tests/it/volumes` was made by the first
//! version that wrote format 2, from a chain that geth reproduces block for block:
//! `tests/make-volume.sh`.

use crate::ether::busy_block;
use crate::real_geth::published;
use crate::rig::process::until;
use crate::rig::published::Row;
use crate::rig::tokens::{self, OWNER, Token};
use crate::rig::{Forks, Geth, Plan, Published, Running, Spyhop};
use ethers::types::{Address, U256};
use spyhop::answers::TABLES;
use spyhop::rows::{CHAIN_TABLES, Table};
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every fork that is final in geth.
const FORKS: Forks = Forks { amsterdam: None, ..Forks::ALL };

/// The last block of the volume, and its last final block.
const HEAD: u64 = 104;
const FINAL: u64 = 101;

/// Views whose rows depend on when they were made, or on the version, and such columns.
const OWN: [&str; 3] = ["coverage", "labels", "events_skipped"];
const TIMES: [&str; 2] = ["detected_at", "new_hashes"];

fn follow(binary: &Path, geth: &Geth, data: &Path) -> Spyhop {
    Spyhop::of(binary, "watch")
        .path("--ipc", &geth.socket())
        .path("--data", data)
        .args(&["--from", "0", "--tables", "+traces"])
}

/// Waits until the blocks up to this hundred are sealed, and readers see that.
fn sealed(watch: &mut Running, data: &Path, hundreds: u64) {
    until(watch, "ranges that are sealed", || {
        let sealed = Published::try_open(data)
            .ok()?
            .try_value("SELECT count(*) FROM sealed.blocks")
            .ok()??;
        (sealed == (hundreds * 100).to_string()).then_some(())
    });
}

/// Tokens: one charges fees, one rebases, and one has amounts of 256 bits.
fn token_block(number: u64) -> Plan {
    let to = |index: u64| Address::from_low_u64_be(0xacc0 + (number + index) % 5);
    let mut transactions: Vec<_> = (0..4)
        .map(|index| {
            tokens::transfer(
                OWNER,
                tokens::address(index),
                to(index),
                U256::from(number * 1_000 + index),
            )
        })
        .collect();
    if number.is_multiple_of(3) {
        transactions.insert(0, tokens::rebase(tokens::address(2)));
        transactions.push(tokens::transfer(
            OWNER,
            tokens::address(3),
            to(9),
            U256::exp10(38) * number,
        ));
    }
    Plan { transactions, ..Plan::default() }
}

/// Extends the chain and follows it with this spyhop, as its head moves: every fork, ether moved in
/// every way, tokens, a reorganisation; at the end blocks 0 to 99 are sealed.
fn make(binary: &Path, geth: &Geth, data: &Path) {
    let token = Token::ordinary;
    let deployed = [
        token("ONE"),
        Token { fee: 3, ..token("FEE") },
        Token { rebases: true, ..token("RE") },
        Token { supply: U256::MAX, ..token("MAX") },
    ];
    geth.block(&Plan {
        transactions: deployed.iter().map(Token::deploy).collect(),
        ..Plan::default()
    });
    let fork = (2..=9).map(|number| geth.block(&busy_block(number))).last().unwrap();
    let mut watch = follow(binary, geth, data).spawn();
    published(&mut watch, data, geth.head());
    for number in 10..=12 {
        geth.block(&Plan { extra: vec![1], ..busy_block(number) });
    }
    published(&mut watch, data, geth.head());
    geth.set_head(fork);
    (10..=14).for_each(|number| _ = geth.block(&busy_block(number)));
    published(&mut watch, data, geth.head());
    (15..=20).for_each(|number| _ = geth.block(&token_block(number)));
    geth.blocks(80, "plain");
    (101..=HEAD).for_each(|number| _ = geth.block(&token_block(number)));
    published(&mut watch, data, geth.head());
    watch.stop();
    geth.finalize(FINAL);
    follow(binary, geth, data).args(&["--once"]).succeed();
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_unstable();
    rows
}

/// The rows of every table and view of a volume, without those that are not of the chain.
fn rows(data: &Path) -> BTreeMap<&'static str, Vec<Row>> {
    let found = Published::open(data);
    let names = TABLES.iter().map(|table| table.name).filter(|name| !OWN.contains(name));
    let rows = names.filter_map(|name| {
        let mut rows = found.try_rows(&format!("SELECT * FROM {name}")).ok()?;
        rows.iter_mut().for_each(|row| row.retain(|column, _| !TIMES.contains(&column.as_str())));
        Some((name, sorted(rows)))
    });
    rows.collect()
}

/// Checks that rows equal others, as far as these have columns.
#[track_caller]
fn same(found: &BTreeMap<&str, Vec<Row>>, expected: &BTreeMap<&str, Vec<Row>>) {
    for (name, expected) in expected {
        let columns =
            expected.first().map(|row| row.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        let mut found = found.get(name).unwrap_or_else(|| panic!("no view {name}")).clone();
        found.iter_mut().for_each(|row| row.retain(|column, _| columns.contains(column)));
        let found = sorted(found);
        assert_eq!(found.len(), expected.len(), "rows of {name}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found, expected, "{name}");
        }
    }
}

fn verify(geth: &Geth, data: &Path) -> String {
    Spyhop::verify(data).path("--ipc", &geth.socket()).succeed()
}

#[test]
fn volume_of_the_first_version_of_format_2_is_taken_over() {
    let geth = Geth::start(FORKS);
    if let Some(binary) = env::var_os("SPYHOP_VOLUME_BY") {
        let data = PathBuf::from(env::var_os("SPYHOP_VOLUME").expect("where it goes"));
        return make(Path::new(&binary), &geth, &data);
    }
    let today = Path::new(env!("CARGO_BIN_EXE_spyhop"));
    let (old, fresh) = (geth.data("old"), geth.data("fresh"));
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/volumes/format-2.tar.gz");
    let unpacked =
        Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&old).status().unwrap();
    assert!(unpacked.success(), "{}", archive.display());
    make(today, &geth, &fresh);
    let range = old.join("chain/first=0000000000/last=0000000099/g1");
    let manifest = std::fs::read_to_string(range.join("manifest.json")).unwrap();
    let is_same = manifest.contains(&format!("{:?}", geth.block_of(99).hash));
    assert!(
        is_same,
        "geth makes another chain than it did: make the volume again (tests/make-volume.sh)"
    );

    // Its own rows, and its status before anything is written.
    let found = Published::open(&fresh);
    let of_file = |table: &&Table| {
        let file = range.join(format!("{}.parquet", table.name));
        (
            table.name,
            sorted(found.rows(&format!(
                "SELECT * FROM read_parquet('{}', hive_partitioning = false)",
                file.display()
            ))),
        )
    };
    let before: BTreeMap<_, _> = CHAIN_TABLES.iter().map(of_file).collect();
    assert!(before["balances"].len() > 100 && before["traces"].len() > 100, "{:?}", before.keys());
    assert!(verify(&geth, &old).contains("105 blocks in 1 ranges and 5 tail files"));
    // It is upgraded, and has the rows of one made today.
    follow(today, &geth, &old).args(&["--once"]).succeed();
    verify(&geth, &old);
    let found = Published::open(&old);
    let of_view =
        |table: &&Table| (table.name, found.rows(&format!("SELECT * FROM sealed.{}", table.name)));
    same(&CHAIN_TABLES.iter().map(of_view).collect(), &before);
    same(&rows(&old), &rows(&fresh));

    // It continues: the next range has tail blocks of the old and the new version, and ranges of
    // both are read together.
    let mut watches = [&old, &fresh].map(|data| follow(today, &geth, data).spawn());
    geth.blocks(98, "on");
    for (watch, data) in watches.iter_mut().zip([&old, &fresh]) {
        published(watch, data, geth.head());
    }
    geth.finalize(202);
    (203..=207).for_each(|number| _ = geth.block(&token_block(number)));
    for (watch, data) in watches.iter_mut().zip([&old, &fresh]) {
        published(watch, data, geth.head());
        sealed(watch, data, 2);
        watch.stop();
        // Holders are ranked in the background: this waits for it.
        follow(today, &geth, data).args(&["--once"]).succeed();
    }
    assert_eq!(Published::open(&old).check_prefix(0), Some(207));
    same(&rows(&old), &rows(&fresh));
    verify(&geth, &old);
}
