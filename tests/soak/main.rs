//! A long run: small blocks, a reorganisation every 50, readers attached, a restart every 1,000;
//! resource use must stay flat.
//!
//! `SPYHOP_SOAK_BLOCKS` sets the number of blocks; `tests/run.sh soak` takes 100,000.
//! `SPYHOP_SOAK_PLOT` names a file for a plot.

use crate::fake_geth::FakeGeth;
use crate::lying_node::block;
use crate::rig::process::until;
use crate::rig::random::Random;
use crate::rig::transaction::SENDERS;
use crate::rig::{Kind, Published, Running, Spyhop, Transaction};
use alloy_primitives::B256;
use spyhop::store::{read_ranges, tail};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Default number of blocks.
const FEW: u64 = 1_200;

/// From this many blocks on, resource use must stay flat.
const MANY: u64 = 20_000;

const FORK_EVERY: u64 = 50;
const RESTART_EVERY: u64 = 1_000;

/// Distance of the finalized block from the head.
const FINALITY: u64 = 64;

/// The writer's resource use at one moment, just before a restart.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    block: u64,
    /// Of the process.
    memory_mb: f64,
    descriptors: f64,
    threads: f64,
    /// On disk, of current files, over rows of blocks and transactions.
    bytes_a_row: f64,
    blocks_a_second: f64,
}

type Value = fn(&Sample) -> f64;

const VALUES: [(&str, Value); 5] = [
    ("memory, MB", |sample| sample.memory_mb),
    ("descriptors", |sample| sample.descriptors),
    ("threads", |sample| sample.threads),
    ("bytes a row", |sample| sample.bytes_a_row),
    ("blocks a second", |sample| sample.blocks_a_second),
];

/// The chain that is followed.
struct Chain {
    fake: FakeGeth,
    made: u64,
}

impl Chain {
    fn head(&self) -> (u64, B256) {
        self.fake.chain().head().map_or((0, B256::ZERO), |head| (head.number, head.hash))
    }

    fn grow_to(&mut self, head: u64) {
        let is_empty = self.fake.chain().head().is_none();
        let (top, mut parent) = self.head();
        for number in if is_empty { 0 } else { top + 1 }..=head {
            self.made += 1;
            let to = ethers::types::Address::from_low_u64_be(1 + self.made % 1_000);
            let transfer = Transaction::transfer(self.made as usize % SENDERS, to, self.made)
                .kind(Kind::Legacy);
            parent = self.fake.chain().push(block(
                number,
                parent,
                &[transfer.sign(self.made)],
                &self.made.to_string(),
            ));
        }
        let finalized = head.saturating_sub(FINALITY);
        let before = self.fake.chain().finalized;
        self.fake.chain().finalized = before.max(Some(finalized));
    }
}

#[test]
fn resource_use_stays_flat() {
    let blocks = std::env::var("SPYHOP_SOAK_BLOCKS")
        .map_or(FEW, |text| text.parse().expect("a number of blocks"));
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut random = Random::new("soak");
    let mut chain = Chain { fake: FakeGeth::start(directory.path()), made: 0 };
    chain.grow_to(10);
    let start = || {
        Spyhop::watch(chain_path(directory.path()).as_path(), &data).args(&["--from", "0"]).spawn()
    };
    let mut watch = start();
    let over = AtomicBool::new(false);
    let read = AtomicU64::new(0);
    let mut samples = Vec::new();
    let mut forks = 0;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| follow(&data, &over, &read));
        }
        // Ends the readers, however this ends.
        let _over = Over(&over);
        let mut lap = Instant::now();
        let mut head = chain.head().0;
        while head < blocks {
            head = (head + FORK_EVERY).min(blocks);
            chain.grow_to(head);
            wait_for_tip(&mut watch, &data, chain.head());
            if head < blocks {
                let depth = random.within(1..=6);
                chain.fake.chain().rewind(head - depth);
                chain.grow_to(head - depth + random.within(1..=depth + 2));
                head = chain.head().0;
                forks += 1;
                wait_for_tip(&mut watch, &data, chain.head());
            }
            let lives = samples.len() as u64;
            if head / RESTART_EVERY > lives || head == blocks {
                samples.push(sample(&watch, &data, head, lap.elapsed()));
                if lives.is_multiple_of(2) {
                    _ = watch.stop()
                } else {
                    watch.kill()
                }
                watch = start();
                lap = Instant::now();
            }
        }
        // The tail is already there; the published file may be older.
        until(&mut watch, "the last block to be published", || {
            let published = Published::try_open(&data).ok()?;
            (published.number("SELECT max(number) FROM blocks") == blocks).then_some(())
        });
    });
    watch.stop();
    let report = report(&samples, forks, read.load(Ordering::Relaxed));
    writeln!(std::io::stderr(), "{report}").unwrap();
    if let Some(path) = std::env::var_os("SPYHOP_SOAK_PLOT") {
        std::fs::write(&path, plot(&samples)).unwrap();
    }

    let published = Published::open(&data);
    assert_eq!(published.check_prefix(0), Some(blocks));
    let held = published.rows("SELECT number, hash FROM blocks");
    for row in &held {
        let number = row["number"].as_ref().unwrap().parse().unwrap();
        let hash = chain.fake.chain().block(number).unwrap().hash.to_string();
        assert_eq!(row["hash"].as_ref(), Some(&hash), "block {number}");
    }
    // A reorganisation may have gone unseen while the writer was away.
    let seen = published.number("SELECT count(*) FROM reorgs");
    assert!(
        seen <= forks && seen + samples.len() as u64 >= forks,
        "{seen} of {forks} reorganisations"
    );
    Spyhop::new("verify").path("--data", &data).succeed();
    if blocks >= MANY {
        let part = |from: usize| &samples[samples.len() * from / 4..samples.len() * (from + 1) / 4];
        for (name, value) in &VALUES[..4] {
            let mean = |part: &[Sample]| part.iter().map(value).sum::<f64>() / part.len() as f64;
            let (before, after) = (mean(part(1)), mean(part(3)));
            assert!(
                after <= before * 1.05,
                "{name}: {before:.2} in the second quarter, {after:.2} in the last"
            );
        }
    }
}

/// Signals the end when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn chain_path(directory: &Path) -> std::path::PathBuf {
    directory.join("geth.ipc")
}

/// A reader that opens the file repeatedly, and expects one contiguous run of blocks each time.
fn follow(data: &Path, over: &AtomicBool, read: &AtomicU64) {
    while !over.load(Ordering::Relaxed) {
        if data.join("spyhop.duckdb").exists() {
            let published = Published::open(data);
            let torn = published.number(
                "SELECT count(*) - (max(number) - min(number) + 1) + count(*)
                    - count(DISTINCT number)
                FROM blocks",
            );
            assert_eq!(torn, 0, "a reader sees a gap");
            published.number("SELECT count(*) FROM balances");
            read.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Waits until the heartbeat has this block as the tip.
fn wait_for_tip(watch: &mut Running, data: &Path, (number, hash): (u64, B256)) {
    let file = data.join(tail::path(number, hash));
    until(watch, &format!("block {number}"), || file.exists().then_some(()));
}

fn sample(watch: &Running, data: &Path, block: u64, lap: Duration) -> Sample {
    let process = format!("/proc/{}", watch.id());
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    let sealed: u64 = read_ranges(data).unwrap().iter().map(|range| range.manifest.bytes()).sum();
    let tail: u64 = tail::paths(data)
        .unwrap()
        .iter()
        .filter_map(|path| Some(path.metadata().ok()?.len()))
        .sum();
    Sample {
        block,
        memory_mb: number("VmRSS:") / 1024.0,
        descriptors: std::fs::read_dir(format!("{process}/fd")).unwrap().count() as f64,
        threads: number("Threads:"),
        bytes_a_row: (sealed + tail) as f64 / (2 * (block + 1)) as f64,
        blocks_a_second: RESTART_EVERY.min(block) as f64 / lap.as_secs_f64(),
    }
}

/// A report with a line for every twentieth of the run.
fn report(samples: &[Sample], forks: u64, read: u64) -> String {
    let mut text = format!(
        "soak: {forks} reorganisations, {} restarts, the file read {read} times\n",
        samples.len()
    );
    write!(text, "{:>9}", "block").unwrap();
    for (name, _) in VALUES {
        write!(text, " {name:>16}").unwrap();
    }
    for sample in samples.iter().step_by(samples.len().div_ceil(20)) {
        write!(text, "\n{:>9}", sample.block).unwrap();
        for (_, value) in VALUES {
            write!(text, " {:>16.1}", value(sample)).unwrap();
        }
    }
    text
}

/// The same as a plot: a curve for each value, from zero to its maximum.
fn plot(samples: &[Sample]) -> String {
    let (width, height) = (800.0, 160.0);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{}' height='{}' \
         font-family='sans-serif' font-size='12'>\n",
        width + 20.0,
        (height + 30.0) * VALUES.len() as f64
    );
    for (index, (name, value)) in VALUES.iter().enumerate() {
        let top = index as f64 * (height + 30.0) + 20.0;
        let most = samples.iter().map(value).fold(1e-9, f64::max);
        let points = samples.iter().enumerate().map(|(at, sample)| {
            let x = 10.0 + width * at as f64 / samples.len().max(2) as f64;
            format!("{x:.1},{:.1}", top + height - height * value(sample) / most)
        });
        let points = points.collect::<Vec<_>>().join(" ");
        writeln!(svg, "<text x='10' y='{:.0}'>{name}, up to {most:.1}</text>", top - 4.0).unwrap();
        let shape = format!("x='10' y='{top:.0}' width='{width}' height='{height}'");
        writeln!(svg, "<rect {shape} fill='none' stroke='#ccc'/>").unwrap();
        writeln!(svg, "<polyline points='{points}' fill='none' stroke='#235'/>").unwrap();
    }
    svg + "</svg>\n"
}
