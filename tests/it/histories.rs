//! The planner, merging, the tail and reorganisations over random histories, against simple models.
//!
//! `SPYHOP_HISTORIES` sets how many of each are tried, different ones each time unless
//! `SPYHOP_SEED` is set. By default they are the same each time: whether a commit passes is not
//! left to chance.

use crate::fake_geth::FakeGeth;
use crate::lying_node::extend;
use crate::rig::{Published, Spyhop};
use alloy_primitives::B256;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use serde_json::json;
use spyhop::plan::{Known, Order, Piece, Source};
use spyhop::rows::{Batch, Gap, Options, Selection, reorgs::Reorg};
use spyhop::store::{BlockLink, Range, Store, TailBlock, next_merge, tail};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Default number of histories of each kind.
const FEW: u32 = 256;

/// The default seed.
const SEED: u64 = 0x5b4d_0001;

/// A share of the requested number, which is printed.
fn histories(name: &str, share: u32) -> Config {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let wanted = number("SPYHOP_HISTORIES").map(|wanted| wanted as u32);
    let cases = (wanted.unwrap_or(FEW) / share).max(1);
    let rng_seed = match number("SPYHOP_SEED") {
        Some(seed) => RngSeed::Fixed(seed),
        None if wanted.is_some() => RngSeed::Random,
        None => RngSeed::Fixed(SEED),
    };
    // Not with `println`, which the test harness captures in a successful test.
    writeln!(std::io::stderr(), "{name}: {cases} histories").unwrap();
    Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        rng_seed,
        ..Config::default()
    }
}

/// An event at a node and its follower.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The head rises.
    Grow(u64),
    /// Everything this many blocks below the head is final.
    Finalize(u64),
    /// The freezer takes final blocks, except for this many.
    Freeze(u64),
    /// The tail takes up to this many blocks.
    Follow(u64),
    /// A worker starts the next piece.
    Start,
    /// The oldest piece in progress is done.
    Finish,
    /// It failed.
    Fail,
    /// Failed pieces are retried.
    Retry,
    /// The chain goes back by this many blocks, if they are not final.
    Fork(u64),
    /// All work in progress is lost.
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1..400u64).prop_map(Event::Grow),
        3 => (0..300u64).prop_map(Event::Finalize),
        1 => (0..200u64).prop_map(Event::Freeze),
        6 => (1..200u64).prop_map(Event::Follow),
        4 => Just(Event::Start),
        4 => Just(Event::Finish),
        1 => Just(Event::Fail),
        1 => Just(Event::Retry),
        1 => (1..40u64).prop_map(Event::Fork),
        1 => Just(Event::Restart),
    ]
}

/// A node, and what is stored of its chain.
#[derive(Debug)]
struct World {
    head: u64,
    finalized: Option<u64>,
    frozen: Option<u64>,
    requested_first: u64,
    order: Order,
    sealed: BTreeSet<(u64, u64)>,
    failed: BTreeSet<(u64, u64)>,
    /// Whether any piece ever failed: blocks above it may then be stored first.
    has_failed: bool,
    in_progress: Vec<Piece>,
    tail: Option<(u64, u64)>,
}

impl World {
    fn known(&self) -> Known {
        Known {
            requested_first: self.requested_first,
            finalized: self.finalized,
            in_freezer: self.frozen.map(|last| (0, last)).into_iter().collect(),
            settled: self.sealed.union(&self.failed).copied().collect(),
            in_progress: self.in_progress.clone(),
            tail: self.tail,
            order: self.order,
            ..Known::default()
        }
    }

    /// Handles an event as the loops do. Returns whether anything changed.
    fn happen(&mut self, event: Event) -> bool {
        match event {
            Event::Grow(blocks) => self.head += blocks,
            Event::Finalize(below) => {
                self.finalized = self.finalized.max(self.head.checked_sub(below))
            }
            Event::Freeze(below) => {
                self.frozen =
                    self.frozen.max(self.finalized.and_then(|last| last.checked_sub(below)));
            }
            Event::Follow(blocks) => {
                let known = self.known();
                let next = known.tail_next();
                if next > self.head || known.tail_waits() {
                    return false;
                }
                let first = self.tail.map_or(next, |(first, _)| first);
                self.tail = Some((first, self.head.min(next + blocks - 1)));
            }
            Event::Start => {
                let Some(piece) =
                    self.known().pieces().next().filter(|_| self.in_progress.len() < 3)
                else {
                    return false;
                };
                self.in_progress.push(piece);
            }
            Event::Finish | Event::Fail if self.in_progress.is_empty() => return false,
            Event::Finish => {
                let Piece { first, last, .. } = self.in_progress.remove(0);
                self.sealed.insert((first, last));
                self.tail = self.tail.and_then(|(low, high)| {
                    let low = if (first..=last).contains(&low) { last + 1 } else { low };
                    (low <= high).then_some((low, high))
                });
            }
            // Blocks sealed from the tail have been proved already.
            Event::Fail if self.in_progress[0].source == Source::Tail => return false,
            Event::Fail => {
                let piece = self.in_progress.remove(0);
                self.failed.insert((piece.first, piece.last));
                self.has_failed = true;
            }
            Event::Retry => self.failed.clear(),
            Event::Fork(depth) => {
                let lowest = self.finalized.map_or(0, |last| last + 1);
                let fork = self.head.saturating_sub(depth).max(lowest);
                self.head = self.head.max(fork);
                self.tail = self
                    .tail
                    .and_then(|(low, high)| (low <= fork).then_some((low, high.min(fork))));
            }
            Event::Restart => self.in_progress.clear(),
        }
        true
    }

    /// Invariants that must always be true.
    fn check(&self) -> Result<(), TestCaseError> {
        let settled: Vec<_> = self.sealed.union(&self.failed).copied().collect();
        for pair in settled.windows(2) {
            prop_assert!(pair[0].1 < pair[1].0, "overlap: {settled:?}");
        }
        if self.order == Order::OldestFirst {
            let mut next = self.requested_first;
            for (first, last) in &settled {
                // A failed piece is listed until it is stored.
                if !self.has_failed {
                    prop_assert_eq!(*first, next, "a hole below {:?}", settled);
                }
                next = last + 1;
            }
        }
        if let (Some((low, high)), Some((_, last))) = (self.tail, settled.last()) {
            prop_assert!(low <= high);
            // Newest first, or after a failure: the blocks between are final, and planned, as
            // checked below.
            let comes_later = self.order == Order::NewestFirst || self.has_failed;
            let is_planned = comes_later && self.finalized >= low.checked_sub(1);
            prop_assert!(
                low <= last + 1 || is_planned,
                "a hole between {last} and the tail from {low}"
            );
            prop_assert!(
                low == last + 1 || self.order == Order::NewestFirst || self.has_failed,
                "{settled:?} {low}"
            );
        }
        let known = self.known();
        let pieces: Vec<_> = known.pieces().collect();
        let mut planned = BTreeSet::new();
        for piece in &pieces {
            let length = piece.last + 1 - piece.first;
            prop_assert!(
                [100, 1_000].contains(&length) && piece.first.is_multiple_of(length),
                "{piece:?}"
            );
            prop_assert!(
                piece.first >= self.requested_first && Some(piece.last) <= self.finalized,
                "{piece:?}"
            );
            let is_of = |interval: Option<(u64, u64)>| {
                interval.is_some_and(|(low, high)| low <= piece.first && piece.last <= high)
            };
            let expected = match () {
                () if is_of(self.tail) => Source::Tail,
                // Some of its blocks are taken from the tail, the others from where the tail came
                // from.
                () if self
                    .tail
                    .is_some_and(|(low, high)| low <= piece.last && piece.first <= high) =>
                {
                    Source::Node
                }
                () if is_of(self.frozen.map(|last| (0, last))) => Source::Freezer,
                () => Source::Node,
            };
            prop_assert_eq!(piece.source, expected);
            for hundred in (piece.first..piece.last).step_by(100) {
                prop_assert!(planned.insert(hundred), "{hundred} is planned twice");
            }
        }
        let taken = |hundred: u64| {
            let in_progress = self.in_progress.iter().map(|piece| (piece.first, piece.last));
            settled
                .iter()
                .copied()
                .chain(in_progress)
                .any(|(first, last)| first <= hundred + 99 && hundred <= last)
        };
        let end = self.finalized.map_or(0, |last| last + 1);
        let open = (self.requested_first..end)
            .step_by(100)
            .filter(|hundred| hundred + 100 <= end && !taken(*hundred));
        prop_assert_eq!(planned, open.collect::<BTreeSet<_>>());
        Ok(())
    }
}

proptest! {
    #![proptest_config(histories("planner", 1))]
    #[test]
    fn histories_of_the_planner_leave_no_hole_and_come_to_an_end(
        events in prop::collection::vec(event(), 1..60),
        wanted in 0..30u64,
        newest in any::<bool>(),
    ) {
        let order = if newest { Order::NewestFirst } else { Order::OldestFirst };
        let mut world = World {
            head: 0, finalized: None, frozen: None, requested_first: wanted * 100, order,
            sealed: BTreeSet::new(), failed: BTreeSet::new(), has_failed: false,
            in_progress: Vec::new(), tail: None,
        };
        for event in events {
            world.happen(event);
            world.check()?;
        }
        world.failed.clear();
        let mut steps = 0;
        while [Event::Start, Event::Finish, Event::Follow(16)]
            .into_iter()
            .fold(false, |any, event| any | world.happen(event))
        {
            world.check()?;
            steps += 1;
            prop_assert!(steps < 5_000, "it does not come to an end: {world:?}");
        }
        let known = world.known();
        prop_assert_eq!(known.pieces().count(), 0);
        prop_assert!(known.tail_next() > world.head);
    }
}

/// A sealed range of blocks whose hashes are their numbers.
fn range(first: u64, last: u64, tables: Selection) -> Range {
    let hash = |number: u64| B256::left_padding_from(&number.to_be_bytes());
    let table = json!({"rows": 0, "bytes": 1, "covered": [], "blake3": ""});
    let tables = tables.tables().map(|name| (name.name.to_owned(), table.clone()));
    // As on a volume: later fields have defaults.
    let manifest = json!({
        "format": spyhop::store::FORMAT,
        "chain_id": 1,
        "genesis_hash": hash(0),
        "spyhop_version": "",
        "first": first,
        "last": last,
        "first_parent_hash": hash(first.wrapping_sub(1)),
        "last_hash": hash(last),
        "last_timestamp": last,
        "tables": tables.collect::<serde_json::Map<_, _>>(),
    });
    let manifest = serde_json::from_value(manifest).unwrap();
    Range { first, last, generation: 1, path: PathBuf::new(), manifest }
}

proptest! {
    #![proptest_config(histories("merges", 1))]
    #[test]
    fn histories_of_merges_end_with_the_largest_ranges_and_lose_none(
        built in prop::collection::vec((0..120u64, any::<bool>(), any::<bool>()), 1..200),
        with_traces in any::<bool>(),
    ) {
        let traces = Selection::default().with(Selection::parse(["traces"].into_iter()).unwrap());
        let asked = if with_traces { traces } else { Selection::default() };
        let mut ranges = BTreeMap::<u64, Range>::new();
        let mut held = BTreeSet::new();
        for (place, is_thousand, has_traces) in built {
            let size = if is_thousand { 1_000 } else { 100 };
            let first = place * 100 / size * size;
            let hundreds: Vec<_> = (first..first + size).step_by(100).collect();
            if hundreds.iter().any(|hundred| held.contains(hundred)) {
                continue;
            }
            held.extend(hundreds);
            let tables = if has_traces { traces } else { Selection::default() };
            ranges.insert(first, range(first, first + size - 1, tables));
            loop {
                let list: Vec<_> = ranges.values().cloned().collect();
                let Some(merge) = next_merge(&list, asked) else { break };
                let (bottom, top) = (&merge.sources[0], &merge.sources[9]);
                let merged = range(bottom.first, top.last, bottom.tables());
                prop_assert_eq!(merge.sources.len(), 10);
                let is_aligned = merged.first.is_multiple_of(merged.blocks());
                prop_assert!(is_aligned, "{} to {}", merged.first, merged.last);
                prop_assert!(merged.tables().covers(asked));
                for source in &merge.sources {
                    prop_assert!(source.tables() == merged.tables());
                    prop_assert!(source.blocks() * 10 == merged.blocks());
                    let removed = ranges.remove(&source.first);
                    prop_assert!(removed.is_some(), "merged what is not there");
                }
                ranges.insert(merged.first, merged);
            }
        }
        let covered = ranges.values().flat_map(|range| (range.first..range.last).step_by(100));
        prop_assert_eq!(covered.collect::<Vec<_>>(), held.into_iter().collect::<Vec<_>>());
        // No merge is left.
        for size in [1_000, 10_000] {
            for first in (0..12_000).step_by(size as usize) {
                let parts = ranges.range(first..first + size);
                let parts: Vec<_> = parts.map(|(_, range)| range).collect();
                let alike = parts.iter().all(|part| {
                    part.blocks() * 10 == size && part.tables() == parts[0].tables()
                });
                prop_assert!(
                    parts.len() < 10 || !alike || !parts[0].tables().covers(asked),
                    "{first} to {}",
                    first + size
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(histories("gaps", 1))]
    #[test]
    fn histories_of_gaps_name_every_block_that_lacks_something(
        blocks in prop::collection::vec((any::<bool>(), 0..3u8), 1..80),
        first in 0..80u64,
        last in 0..80u64,
    ) {
        let mut gaps = Vec::new();
        let mut lacking = Vec::new();
        for (number, (lacks, why)) in (0..).zip(blocks) {
            if lacks {
                let reason = why.to_string();
                lacking.push((number, reason.clone()));
                let gap = json!({
                    "table": "logs", "first": number, "last": number, "reason": reason,
                });
                Gap::push(&mut gaps, serde_json::from_value(gap).unwrap());
            }
        }
        let named = |gaps: &[Gap]| {
            let blocks = gaps.iter().flat_map(|gap| {
                (gap.first..=gap.last).map(|number| (number, gap.reason.clone()))
            });
            blocks.collect::<Vec<_>>()
        };
        prop_assert_eq!(&named(&gaps), &lacking);
        let runs = lacking.iter().enumerate().filter(|(index, (number, reason))| {
            *index == 0 || lacking[index - 1] != (number.wrapping_sub(1), reason.clone())
        });
        prop_assert_eq!(gaps.len(), runs.count());
        Gap::trim(&mut gaps, first, last);
        lacking.retain(|(number, _)| (first..=last).contains(number));
        prop_assert_eq!(&named(&gaps), &lacking);
    }
}

/// An operation on a tail.
#[derive(Clone, Copy, Debug)]
enum TailEvent {
    /// This many blocks of the current branch are written.
    Write(u64),
    /// This many are replaced by the next branch.
    Reorganise(u64),
    /// The volume is opened again.
    Open,
}

fn tail_event() -> impl Strategy<Value = TailEvent> {
    prop_oneof![
        3 => (1..6u64).prop_map(TailEvent::Write),
        2 => (1..6u64).prop_map(TailEvent::Reorganise),
        1 => Just(TailEvent::Open),
    ]
}

proptest! {
    #![proptest_config(histories("tails", 4))]
    #[test]
    fn histories_of_the_tail_hold_one_branch_and_record_each_reorganisation(
        events in prop::collection::vec(tail_event(), 1..20),
    ) {
        let directory = scratch();
        let mut store = Store::open(directory.path()).unwrap();
        let mut model: Vec<BlockLink> = Vec::new();
        let mut reorgs: Vec<Reorg> = Vec::new();
        let mut made = 0u64;
        for event in events {
            match event {
                TailEvent::Write(blocks) => {
                    let mut batch = Vec::new();
                    for _ in 0..blocks {
                        made += 1;
                        let number = model.len() as u64;
                        let parent_hash = model.last().map_or(B256::ZERO, |link| link.hash);
                        let hash = B256::left_padding_from(&made.to_be_bytes());
                        let link = BlockLink { number, hash, parent_hash, timestamp: made };
                        model.push(link);
                        let batches = Batch::new(Options::default()).finish().unwrap();
                        let tables = Selection::default();
                        batch.push(TailBlock { link, tables, batches, gaps: Vec::new() });
                    }
                    tail::write(&store, &batch).unwrap();
                }
                TailEvent::Reorganise(depth) => {
                    let kept = model.len().saturating_sub(depth as usize).max(1);
                    if kept >= model.len() {
                        continue;
                    }
                    let old_hashes = model[kept..].iter().map(|link| link.hash).collect();
                    let fork = model[kept - 1];
                    let reorg = Reorg {
                        detected_at: made,
                        fork_block: fork.number,
                        fork_hash: fork.hash,
                        old_hashes,
                        new_hashes: Vec::new(),
                    };
                    store.reorganise(&reorg).unwrap();
                    reorgs.push(reorg);
                    model.truncate(kept);
                }
                TailEvent::Open => {
                    drop(store);
                    store = Store::open(directory.path()).unwrap();
                }
            }
            let listed = tail::list(&store, Selection::default()).unwrap();
            let links: Vec<_> = listed.into_iter().map(|(link, _)| link).collect();
            prop_assert_eq!(&links, &model);
            prop_assert_eq!(&store.reorgs().unwrap(), &reorgs);
        }
    }
}

#[test]
fn a_reorganisation_that_failed_half_way_and_is_tried_again_is_recorded_once() {
    let directory = scratch();
    let store = Store::open(directory.path()).unwrap();
    let hash = |number: u64| B256::left_padding_from(&number.to_be_bytes());
    let reorg = |old, detected_at| Reorg {
        detected_at,
        fork_block: 1,
        fork_hash: hash(1),
        old_hashes: vec![hash(old)],
        new_hashes: Vec::new(),
    };
    // A directory cannot be removed as a file.
    let tail = directory.path().join(tail::path(2, hash(20)));
    std::fs::create_dir(&tail).unwrap();
    assert!(store.reorganise(&reorg(20, 1)).is_err());
    std::fs::remove_dir(&tail).unwrap();
    store.reorganise(&reorg(20, 2)).unwrap();
    assert_eq!(store.reorgs().unwrap(), [reorg(20, 1)]);
    // Going there and back again is another one.
    store.reorganise(&reorg(21, 3)).unwrap();
    store.reorganise(&reorg(20, 4)).unwrap();
    assert_eq!(store.reorgs().unwrap().len(), 3);
}

/// An event at a node that the program itself follows.
#[derive(Clone, Copy, Debug)]
enum NodeEvent {
    Grow(u64),
    Fork {
        depth: u64,
        blocks: u64,
    },
    Finalize(u64),
    /// It is followed up to its head.
    Follow,
    /// The newest file of the tail is lost.
    LoseTip,
}

fn node_event() -> impl Strategy<Value = NodeEvent> {
    prop_oneof![
        2 => (1..60u64).prop_map(NodeEvent::Grow),
        2 => (1..8u64, 0..12u64).prop_map(|(depth, blocks)| NodeEvent::Fork { depth, blocks }),
        2 => (0..40u64).prop_map(NodeEvent::Finalize),
        4 => Just(NodeEvent::Follow),
        1 => Just(NodeEvent::LoseTip),
    ]
}

proptest! {
    #![proptest_config(Config { max_shrink_iters: 40, ..histories("nodes", 32) })]
    #[test]
    fn histories_of_a_node_are_held_block_for_block_and_coverage_says_so(
        events in prop::collection::vec(node_event(), 1..12),
        start in 1..120u64,
    ) {
        let directory = scratch();
        let data = directory.path().join("data");
        let fake = FakeGeth::start(directory.path());
        extend(&fake, start, "");
        let mut branch = 0;
        for event in events.into_iter().chain([NodeEvent::Follow]) {
            let head = fake.chain().head().unwrap().number;
            let finalized = fake.chain().finalized;
            match event {
                NodeEvent::Grow(blocks) => extend(&fake, head + blocks, &branch.to_string()),
                NodeEvent::Fork { depth, blocks } => {
                    // A node that has only block 0 is waited for.
                    let fork = head.saturating_sub(depth).max(finalized.unwrap_or(0)).max(1);
                    branch += 1;
                    fake.chain().rewind(fork);
                    extend(&fake, fork + blocks, &branch.to_string());
                }
                NodeEvent::Finalize(below) => {
                    fake.chain().finalized = finalized.max(head.checked_sub(below));
                }
                NodeEvent::Follow => {
                    Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
                    check_held(&fake, &data)?;
                }
                NodeEvent::LoseTip => {
                    let paths = tail::paths(&data).unwrap_or_default();
                    if let Some(path) = paths.last() {
                        std::fs::remove_file(path).unwrap();
                    }
                }
            }
        }
    }
}

#[test]
fn a_head_that_goes_back_leaves_every_table_covered_up_to_the_last_stored_block() {
    let directory = scratch();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 2, "");
    for head in [2, 1] {
        fake.chain().rewind(head);
        Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
        check_held(&fake, &data).unwrap();
    }
}

/// Whether the volume stores the node's chain, or all of it up to a head that went back, and
/// reports that for every table.
fn check_held(fake: &FakeGeth, data: &Path) -> Result<(), TestCaseError> {
    let head = fake.chain().head().unwrap().number;
    let published = Published::open(data);
    let rows = published.rows("SELECT number, hash FROM blocks ORDER BY number");
    let held: Vec<_> = rows.iter().map(|row| row["hash"].clone().unwrap()).collect();
    let chain: Vec<_> =
        (0..=head).map(|number| fake.chain().block(number).unwrap().hash.to_string()).collect();
    // A head that went back on the same chain is waited for, and nothing is dropped.
    prop_assert!(held.len() >= chain.len(), "{} of {} blocks", held.len(), chain.len());
    prop_assert_eq!(&held[..chain.len()], &chain[..]);
    let intervals = published
        .rows("SELECT table_name, first_block, last_block, status FROM coverage ORDER BY ALL");
    let mut next = BTreeMap::<String, u64>::new();
    for row in &intervals {
        let number = |name: &str| row[name].as_ref().unwrap().parse::<u64>().unwrap();
        let next = next.entry(row["table_name"].clone().unwrap()).or_default();
        prop_assert_eq!(number("first_block"), *next, "{:?}", row);
        *next = number("last_block") + 1;
        let is_chains =
            ["blocks", "transactions", "logs"].contains(&row["table_name"].as_deref().unwrap());
        prop_assert!(!is_chains || row["status"].as_deref() == Some("held"), "{row:?}");
    }
    for (table, next) in next {
        prop_assert_eq!(next, held.len() as u64, "coverage of {}", table);
    }
    Ok(())
}

/// A directory in memory, if possible: syncing is not tested here.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() })
        .unwrap()
}
