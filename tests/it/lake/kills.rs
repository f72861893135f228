//! `spyhop lake` killed at any instant, and several at once, while ranges are sealed, merged and
//! repaired.

use super::log::{Table, whole};
use super::scene::{Scene, TABLES};
use crate::rig::random::Random;
use spyhop::stop::Stop;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Kills in the suite; `SPYHOP_LAKE_KILLS` is another number.
const KILLS: u64 = 100;

/// Superseded ranges are deleted after so long: while they are checked and linked.
const GRACE: Duration = Duration::from_millis(100);

/// Seals, merges and repairs until it is told to end, or there are many blocks.
fn change(scene: &Scene, random: &mut Random, end: &AtomicBool) {
    let mut sealed = scene.store.ranges().unwrap().last().map_or(0, |range| range.last + 1);
    let mut salt = 0;
    while !end.load(Ordering::Relaxed) {
        salt += 1;
        match random.within(0..=9) {
            0..=5 => {
                scene.seal(sealed, sealed + 99, salt);
                sealed += 100;
            }
            6 | 7 => {
                let ranges = scene.store.ranges().unwrap();
                if let Some(last) = ranges.len().checked_sub(1) {
                    let range = &ranges[random.within(0..=last as u64) as usize];
                    scene.seal(range.first, range.last, salt);
                }
            }
            _ => scene.store.collect_losers(GRACE).unwrap(),
        }
        if let Some(merge) = scene.next_merge() {
            merge.run(&scene.store, &Stop::default()).unwrap();
        }
        std::thread::sleep(Duration::from_millis(random.within(0..=40)));
    }
}

#[test]
fn kills_at_any_instant_leave_every_version_whole() {
    let kills = std::env::var("SPYHOP_LAKE_KILLS")
        .map_or(KILLS, |kills| kills.parse().expect("SPYHOP_LAKE_KILLS is a number"));
    let scene = Scene::with_ranges(3);
    let mut random = Random::new("kills_at_any_instant");
    let end = AtomicBool::new(false);
    let (mut inside, mut versions) = (0, 0);
    // A kill comes within twice the time of a whole cycle.
    let started = Instant::now();
    scene.command().succeed();
    let delay_max_us = 2 * started.elapsed().as_micros() as u64;
    std::thread::scope(|scope| {
        let mut changes = random.clone();
        let (scene, end) = (&scene, &end);
        let changing = scope.spawn(move || change(scene, &mut changes, end));
        for _ in 0..kills {
            let mut lake = scene.command().args(&["--follow"]).spawn();
            std::thread::sleep(Duration::from_micros(random.within(0..=delay_max_us)));
            assert!(lake.is_running(), "it ended by itself:\n{}", lake.log());
            lake.kill();
            let said = lake.log();
            inside += u64::from(!said.contains("lake updated"));
            assert!(!said.contains("ERROR"), "{said}");
            versions = whole(&scene.lake(), &TABLES);
        }
        end.store(true, Ordering::Relaxed);
        changing.join().unwrap();
    });
    scene.command().succeed();
    scene.check();
    let blocks = scene.table("blocks");
    rows_of_every_version(&blocks);
    let line = format!(
        "{kills} kills, {inside} before a cycle's end: {versions} versions of {} tables, all whole",
        TABLES.len()
    );
    writeln!(std::io::stderr(), "{line}").unwrap();
    assert!(versions as u64 > kills / 10, "hardly anything was committed: {versions} versions");
}

/// Reads every version of `blocks`: as many rows as blocks, each once.
fn rows_of_every_version(table: &Table) {
    let duckdb = duckdb::Connection::open_in_memory().unwrap();
    for files in table.states() {
        let blocks: u64 = files.iter().map(|file| file.blocks().1 - file.blocks().0 + 1).sum();
        let sql = format!("SELECT count(*), count(DISTINCT number) FROM {}", super::scan(&files));
        let found: (u64, u64) =
            duckdb.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(found, (blocks, blocks));
    }
}

#[test]
fn two_at_once_give_one_log_that_is_whole() {
    let scene = Scene::with_ranges(3);
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (scene, end) = (&scene, &end);
        let mut random = Random::new("two_at_once");
        let changing = scope.spawn(move || change(scene, &mut random, end));
        let racing = [0, 1, 2].map(|_| {
            scope.spawn(move || {
                for _ in 0..10 {
                    scene.command().succeed();
                }
            })
        });
        racing.into_iter().for_each(|racing| racing.join().unwrap());
        end.store(true, Ordering::Relaxed);
        changing.join().unwrap();
    });
    scene.command().succeed();
    scene.check();
}

/// It has as many versions as the one that the follower knows, and other files.
#[test]
fn follow_notices_a_lake_that_was_made_anew() {
    let scene = Scene::with_ranges(3);
    let mut lake = scene.command().args(&["--follow"]).spawn();
    lake.wait_for(&["lake updated", "files=9"]);
    scene.seal(300, 399, 0);
    lake.wait_for(&["lake updated", "files=3"]);
    lake.signal(libc::SIGSTOP);
    std::fs::remove_dir_all(scene.lake()).unwrap();
    scene.command().succeed();
    (4..10).for_each(|index| _ = scene.seal(index * 100, index * 100 + 99, 0));
    scene.command().succeed();
    scene.merge();
    lake.signal(libc::SIGCONT);
    lake.wait_for(&["the lake's log is another one"]);
    lake.wait_for(&["lake updated", "files=3"]);
    lake.stop();
    scene.check();
}

#[test]
fn follow_commits_what_is_sealed_and_stops_on_a_signal() {
    let scene = Scene::new();
    let mut lake = scene.command().args(&["--follow"]).spawn();
    scene.seal(0, 99, 0);
    lake.wait_for(&["lake updated", "files=3"]);
    scene.check();
    scene.seal(100, 199, 0);
    lake.wait_for(&["lake updated", "files=3"]);
    lake.stop();
    scene.check();
}
