//! `kill -9` inside every phase of writing, repeatedly on one volume: no row is lost or duplicated;
//! and exits that do not wait.

use crate::fake_geth::FakeGeth;
use crate::lying_node::extend;
use crate::rig::process::signal;
use crate::rig::random::Random;
use crate::rig::transaction::{SENDERS, sender};
use crate::rig::{
    Forks, Geth, Plan, Published, Spyhop, Transaction, Withdrawal, contracts, wait_for,
};
use ethers::types::{Address, U256};
use spyhop::rows::Selection;
use spyhop::store::{next_merge, read_ranges, tail};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Kills inside each phase: 200 in all.
const EACH: u64 = 40;

/// Tries before a phase counts as impossible to hit.
const TRIES_MAX: u64 = 1_500;

/// A watch that has logged nothing for this long is done.
const SILENCE: Duration = Duration::from_secs(10);

/// The kills of one phase.
struct Kills {
    phase: &'static str,
    /// Maximum tries in a row: the next one finds the work of the previous one half done.
    run_max: u64,
    inside: u64,
    /// The phase was over, or never came: these do not count.
    missed: u64,
    /// Maximum delay of a kill after the phase has begun: it grows until kills miss the phase.
    delay_max_us: u64,
    latest_us: u64,
}

/// A chain that grows and forks, and the volume that follows it.
struct Scene {
    geth: Geth,
    data: PathBuf,
    random: Random,
    final_block: u64,
    /// Blocks made, on all branches: no two are equal.
    made: u64,
}

#[test]
fn two_hundred_kills_lose_no_row_and_double_none() {
    let geth = Geth::start(Forks::OSAKA);
    let data = geth.data("data");
    let random = Random::new("two_hundred_kills");
    let mut scene = Scene { geth, data, random, final_block: 0, made: 0 };
    let mut kills = [("tail", 3), ("range", 6), ("merge", 20), ("publish", 3), ("reorg", 3)].map(
        |(phase, run_max)| Kills {
            phase,
            run_max,
            inside: 0,
            missed: 0,
            delay_max_us: 2_000,
            latest_us: 0,
        },
    );
    let mut tries = 0;
    loop {
        let mut open: Vec<_> = kills.iter_mut().filter(|kills| kills.inside < EACH).collect();
        if open.is_empty() {
            break;
        }
        let last = open.len() as u64 - 1;
        let kills = &mut open[scene.random.within(0..=last) as usize];
        for _ in 0..scene.random.within(1..=kills.run_max) {
            if kills.inside < EACH {
                tries += 1;
                assert!(
                    tries <= TRIES_MAX,
                    "only {} of {EACH} kills hit phase {}",
                    kills.inside,
                    kills.phase
                );
                scene.kill_inside(kills);
            }
        }
    }
    // Not with `println`, which the test harness captures in a successful test.
    for Kills { phase, inside, missed, latest_us, .. } in &kills {
        let latest_ms = *latest_us as f64 / 1e3;
        let line = format!(
            "kill -9 inside phase {phase}: {inside} (up to {latest_ms:.1} ms into it), \
             {missed} missed"
        );
        writeln!(std::io::stderr(), "{line}").unwrap();
    }
    assert_eq!(kills.iter().map(|kills| kills.inside).sum::<u64>(), 200);

    scene.grow(5);
    scene.follow();
    let found = Published::open(&scene.data);
    assert_eq!(found.check_prefix(0), Some(scene.geth.head().number));
    let undisturbed = scene.geth.data("undisturbed");
    Spyhop::watch(&scene.geth.socket(), &undisturbed).args(&["--from", "0", "--once"]).succeed();
    assert_eq!(found.digests(), Published::open(&undisturbed).digests());
    let twice = "SELECT count(*) - count(DISTINCT old_hashes) FROM reorgs";
    assert_eq!(found.number(twice), 0, "a reorganisation is recorded twice");
    assert!(
        found.number("SELECT count(*) FROM reorgs") >= EACH / 2,
        "reorganisations are not recorded"
    );
}

impl Scene {
    /// Starts a watch, kills it some time after the phase has begun, and counts that if it was
    /// before the phase's end.
    fn kill_inside(&mut self, kills: &mut Kills) {
        let mut skip = self.arrange(kills.phase);
        let delay_us = self.random.within(0..=kills.delay_max_us);
        let is = |line: &str, edge: &str| {
            line.contains(edge) && line.ends_with(&format!("phase={}", kills.phase))
        };
        let mut watch =
            Spyhop::watch(&self.geth.socket(), &self.data).args(&["--from", "0"]).spawn();
        let began = loop {
            let Some(line) = watch.line_within(SILENCE) else { break false };
            if is(&line, "enter") {
                if skip == 0 {
                    break true;
                }
                skip -= 1;
            }
        };
        assert!(watch.is_running(), "watch ended by itself:\n{}", watch.log());
        if began {
            std::thread::sleep(Duration::from_micros(delay_us));
        }
        watch.kill();
        // The rest of its log is still to be read.
        let over = std::iter::from_fn(|| watch.line()).any(|line| is(&line, "exit"));
        if began && !over {
            kills.inside += 1;
            kills.latest_us = kills.latest_us.max(delay_us);
            kills.delay_max_us += kills.delay_max_us / 8;
        } else {
            kills.missed += 1;
            kills.delay_max_us = (kills.delay_max_us / 2).max(100);
        }
        if self.data.join("spyhop.duckdb").exists() {
            Published::open(&self.data).check_prefix(0);
        }
    }

    /// Prepares the chain so that the phase will come when a watch starts, and returns how many of
    /// its kind come before the one to hit.
    fn arrange(&mut self, phase: &str) -> u64 {
        match phase {
            "tail" => {
                let blocks = self.random.within(1..=40);
                self.grow(blocks);
                // Up to 16 blocks are written at once.
                self.random.within(0..=(blocks - 1) / 16)
            }
            "range" => {
                let first = self.sealed();
                if self.final_block < first + 99 {
                    self.grow_above(first + 99);
                    if self.random.within(0..=1) == 0 {
                        // It will be sealed from the tail, and not fetched again from the node.
                        self.follow();
                    }
                    self.finalize(first + 99);
                }
                0
            }
            "merge" => {
                if next_merge(&read_ranges(&self.data).unwrap(), Selection::default()).is_none() {
                    let first = self.sealed();
                    if first.is_multiple_of(1_000) {
                        // A thousand blocks read in one go would be one range.
                        self.grow_above(first + 99);
                        self.finalize(first + 99);
                        self.follow();
                    }
                    self.grow_above(first / 1_000 * 1_000 + 999);
                    self.finalize(first / 1_000 * 1_000 + 999);
                }
                0
            }
            "publish" => {
                // The first is from scratch, later ones are incremental.
                let before = self.random.within(0..=1);
                self.grow(before * 20);
                before
            }
            "reorg" => {
                self.fork();
                0
            }
            _ => unreachable!("there are five phases"),
        }
    }

    /// Adds this many blocks to the chain.
    fn grow(&mut self, blocks: u64) {
        for _ in 0..blocks {
            self.made += 1;
            let made = self.made;
            let from = made as usize % SENDERS;
            let log = contracts::erc20_transfer(sender(0), sender(1), U256::from(made));
            let mut transactions = vec![Transaction::logs(from, contracts::TOKEN, &[log])];
            if made.is_multiple_of(3) {
                transactions.push(Transaction::transfer(
                    from,
                    Address::from_low_u64_be(made),
                    made,
                ));
            }
            let withdrawal =
                Withdrawal { index: made, validator: made, address: 0x77, amount_gwei: made };
            let withdrawals = vec![withdrawal; (made % 3) as usize];
            self.geth.block(&Plan {
                transactions,
                withdrawals,
                extra: made.to_be_bytes().to_vec(),
                miner: made % 7,
            });
        }
    }

    /// Adds blocks until there are some above this one.
    fn grow_above(&mut self, number: u64) {
        let wanted = number + self.random.within(1..=30);
        self.grow(wanted.saturating_sub(self.geth.head().number));
    }

    fn finalize(&mut self, number: u64) {
        self.final_block = self.final_block.max(number);
        self.geth.finalize(self.final_block);
    }

    /// Replaces some stored blocks.
    fn fork(&mut self) {
        let head = self.geth.head().number;
        let held = self.held().filter(|held| *held > self.final_block && held + 10 > head);
        let held = held.unwrap_or_else(|| {
            self.grow(20);
            self.follow();
            self.geth.head().number
        });
        // geth goes back by 32 blocks at most.
        let depth = self.random.within(1..=(held - self.final_block).min(22));
        self.geth.set_head(self.geth.block_of(held - depth));
        let blocks = self.random.within(1..=depth + 3);
        self.grow(blocks);
    }

    /// Catches up with the head, undisturbed.
    fn follow(&self) {
        Spyhop::watch(&self.geth.socket(), &self.data).args(&["--from", "0", "--once"]).succeed();
    }

    /// The first block that is not sealed.
    fn sealed(&self) -> u64 {
        read_ranges(&self.data).unwrap().last().map_or(0, |range| range.last + 1)
    }

    /// The highest block of the tail that the node's chain has, too.
    fn held(&self) -> Option<u64> {
        let head = self.geth.head().number;
        let paths = tail::paths(&self.data).unwrap_or_default();
        let mut numbers =
            paths.iter().rev().filter_map(|path| Some((path, tail::number_of(path)?)));
        let is_canonical = |(path, number): &(&PathBuf, u64)| {
            *number <= head
                && path.ends_with(format!("{number:010}-{:x}", self.geth.block_of(*number).hash))
        };
        numbers.find(is_canonical).map(|(_, number)| number)
    }
}

/// Fills a pipe completely: further writes block.
fn fill(pipe: &mut std::io::PipeWriter) {
    let set = |flags: i32| {
        // SAFETY: `fcntl` takes three numbers here, and the descriptor is open.
        assert_ne!(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, flags) }, -1);
    };
    set(libc::O_NONBLOCK);
    while (&*pipe).write(b".").is_ok() {}
    set(0);
}

/// A process that is killed on drop.
struct Mortal(Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_second_sigterm_ends_a_stuck_process_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 20, "");
    let (reader, mut writer) = std::io::pipe().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_spyhop"))
        .args(["watch", "--from", "0", "--ipc"])
        .arg(fake.path())
        .arg("--data")
        .arg(&data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer.try_clone().unwrap())
        .spawn()
        .unwrap();
    let mut watch = Mortal(child);
    wait_for("block 20 in the published file", || {
        (Published::try_open(&data).ok()?.head()?.0 == 20).then_some(())
    });
    // It cannot log that it stops, and therefore does not stop.
    fill(&mut writer);
    signal(&watch.0, libc::SIGTERM);
    let process = watch.0.id();
    let pending = || {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let bits =
            status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap().trim().to_owned();
        u64::from_str_radix(&bits, 16).unwrap() >> (libc::SIGTERM - 1) & 1 == 1
    };
    wait_for("the first signal to be taken", || (!pending()).then_some(()));
    assert!(watch.0.try_wait().unwrap().is_none(), "it ended after one signal");
    // A signal that arrives while the first is pending merges with it: repeat until it has ended.
    let status = wait_for("its end", || {
        let ended = watch.0.try_wait().unwrap();
        if ended.is_none() {
            signal(&watch.0, libc::SIGTERM);
        }
        ended
    });
    assert_eq!(status.code(), Some(128 + libc::SIGTERM));
    drop(reader);
    // Nothing is broken by it.
    Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
    assert_eq!(Published::open(&data).check_prefix(0), Some(20));
}
