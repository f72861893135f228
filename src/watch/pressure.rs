//! When background building pauses, because the node is slow to answer or falls behind; and how it
//! paces its requests to a node that imports blocks.

use crate::stop::{Stop, Stopped};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A slower reply to the head request is a sign of a node under pressure.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(1);

/// A head younger than this, in seconds, means that the node keeps up.
const KEEPS_UP_S: u64 = 30;

/// A head older than this, in seconds, means that a node that kept up has fallen behind: seven
/// slots.
const BEHIND_S: u64 = 84;

/// A node whose head moves this often is importing all the time.
const CONTINUOUS: Duration = Duration::from_millis(500);

/// How long it counts as such after its last move.
const CONTINUES: Duration = Duration::from_secs(2);

/// How long a node is observed before it is considered idle.
const UNKNOWN: Duration = Duration::from_secs(1);

/// The longest block interval from which the next block is predicted.
const PERIOD_MAX: Duration = Duration::from_secs(15);

/// For a node that is importing all the time, requests go out in the first part of each turn.
const TURN: Duration = Duration::from_secs(1);
const TURN_TAKEN: Duration = Duration::from_millis(50);

/// Pause after each reply of such a node.
const BREATH: Duration = Duration::from_millis(30);

/// How often a waiting worker checks whether it is its time.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// When to fetch blocks that nobody is waiting for: not while the node imports a block, or is about
/// to. It answers at its own priority, work for us delays its block, and a busy core slows the
/// others whatever its priority.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    head: Mutex<Option<Moves>>,
    turn: Semaphore,
}

/// When the node's head last moved. All times are since [`Pace`] was created.
#[derive(Clone, Copy, Debug)]
struct Moves {
    at: Duration,
    /// The last interval and the one before it: a poll may be late now and then.
    periods: [Duration; 2],
}

impl Moves {
    /// The head moved again.
    fn next(before: Option<Self>, at: Duration) -> Self {
        let periods = before
            .map_or([Duration::MAX; 2], |before| [at.saturating_sub(before.at), before.periods[0]]);
        Self { at, periods }
    }
}

/// What the node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// Nothing, as far as is known.
    Idle,
    /// It is importing a block about now.
    AtWork,
    /// It is importing block after block, or may be: it gets few requests.
    Shared,
}

impl Activity {
    /// The activity now, given the head's past moves.
    fn at(now: Duration, moves: Option<Moves>) -> Self {
        let Some(Moves { at, periods }) = moves else {
            return if now < UNKNOWN { Self::Shared } else { Self::Idle };
        };
        let (age, period) = (now.saturating_sub(at), periods[0]);
        if period == Duration::MAX && age < UNKNOWN {
            return Self::Shared;
        }
        if periods[0].min(periods[1]) < CONTINUOUS && age < CONTINUES {
            let of_turn = now.as_millis() % TURN.as_millis();
            return if of_turn < TURN_TAKEN.as_millis() { Self::Shared } else { Self::AtWork };
        }
        let is_due = period <= PERIOD_MAX && age > period * 3 / 4 && age < period * 2;
        if is_due { Self::AtWork } else { Self::Idle }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { started: Instant::now(), head: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Pace {
    /// Records that the node's head moved.
    pub(super) fn moved(&self) {
        let mut head = self.head.lock().expect("nothing panics while holding it");
        *head = Some(Moves::next(*head, self.started.elapsed()));
    }

    fn activity(&self) -> Activity {
        Activity::at(
            self.started.elapsed(),
            *self.head.lock().expect("nothing panics while holding it"),
        )
    }

    /// Sends a request between two of the node's blocks; a node that imports all the time gets one
    /// request at a time, with pauses.
    pub(super) async fn ask_between_blocks<T>(&self, asked: impl Future<Output = T>) -> T {
        if self.activity() == Activity::Idle {
            return asked.await;
        }
        let turn = self.turn.acquire().await.expect("the semaphore is never closed");
        while self.activity() == Activity::AtWork {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if self.activity() == Activity::Idle {
            drop(turn);
            return asked.await;
        }
        let answer = asked.await;
        tokio::time::sleep(BREATH).await;
        answer
    }

    /// Waits, on a worker's thread, until the node is between two blocks.
    pub(super) fn wait_between_blocks(&self, stop: &Stop) -> Result<(), Stopped> {
        while self.activity() == Activity::AtWork && !stop.is_set() {
            std::thread::sleep(LOOK_EVERY);
        }
        stop.check()
    }
}

/// Why building pauses.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PauseReason {
    /// The node takes long to answer.
    NodeSlow,
    /// The node kept up, and no longer does.
    NodeBehind,
}

impl PauseReason {
    /// The reasons, and how each is called in the heartbeat and in the metrics.
    pub(crate) const ALL: [(Self, &str); 2] =
        [(Self::NodeSlow, "node_slow"), (Self::NodeBehind, "node_behind")];
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodeSlow => "the node is slow to answer",
            Self::NodeBehind => "the node has fallen behind",
        })
    }
}

/// Workers wait here between two blocks while it is closed. Open at first.
#[derive(Debug)]
pub(super) struct Gate {
    /// Whether it is ever closed.
    closes: bool,
    /// Why it is closed, if it is.
    closed: Mutex<Option<PauseReason>>,
    changed: Condvar,
}

impl Gate {
    /// It is never closed if somebody is waiting for the result.
    pub(super) fn new(closes: bool) -> Self {
        Self { closes, closed: Mutex::default(), changed: Condvar::new() }
    }

    /// Closes it for a reason, or opens it without one; logs changes.
    pub(super) fn close_because(&self, why: Option<PauseReason>) {
        let why = why.filter(|_| self.closes);
        let mut closed = self.closed.lock().expect("nothing panics while holding it");
        if std::mem::replace(&mut *closed, why).is_some() != why.is_some() {
            match why {
                Some(why) => tracing::info!("building pauses: {why}"),
                None => tracing::info!("building resumes"),
            }
        }
        self.changed.notify_all();
    }

    /// Why it is closed, if it is.
    pub(super) fn why_closed(&self) -> Option<PauseReason> {
        *self.closed.lock().expect("nothing panics while holding it")
    }

    /// Waits, on a worker's thread, until it is open.
    pub(super) fn wait_on_thread(&self, stop: &Stop) -> Result<(), Stopped> {
        let mut closed = self.closed.lock().expect("nothing panics while holding it");
        while closed.is_some() && !stop.is_set() {
            let waited = self.changed.wait_timeout(closed, Duration::from_millis(100));
            closed = waited.expect("nothing panics while holding it").0;
        }
        stop.check()
    }

    /// Waits until it is open.
    pub(super) async fn wait(&self) {
        while self.why_closed().is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Whether the node falls behind.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    /// Whether its head was ever recent: a node that never kept up is not slowed down by us.
    kept_up: bool,
}

impl Pressure {
    /// Whether a node that kept up now has a head that is too old.
    pub(super) fn is_late(&mut self, head_age_s: u64) -> bool {
        self.kept_up |= head_age_s < KEEPS_UP_S;
        self.kept_up && head_age_s > BEHIND_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_follows_from_the_moves_of_the_head() {
        use Activity::{AtWork, Idle, Shared};
        let check = |moves_ms: &[u64], now_ms: u64, expected: Activity| {
            let ms = Duration::from_millis;
            let moves = moves_ms.iter().fold(None, |moves, at| Some(Moves::next(moves, ms(*at))));
            assert_eq!(
                Activity::at(ms(now_ms), moves),
                expected,
                "moves at {moves_ms:?}, now {now_ms}"
            );
        };
        // Nothing is known at first; a node whose head stands still is idle.
        check(&[], 0, Shared);
        check(&[], 999, Shared);
        check(&[], 1_000, Idle);
        check(&[], 3_600_000, Idle);
        // After a single move the next one may come at once.
        check(&[5_000], 5_999, Shared);
        check(&[5_000], 6_000, Idle);
        // A block every 12 seconds: importing from three quarters of that on, until the next is
        // long overdue.
        check(&[10_000, 22_000], 22_100, Idle);
        check(&[10_000, 22_000], 31_000, Idle);
        check(&[10_000, 22_000], 31_001, AtWork);
        check(&[10_000, 22_000], 45_999, AtWork);
        check(&[10_000, 22_000], 46_000, Idle);
        // Above 15 seconds the next block is not predicted.
        check(&[10_000, 25_000], 37_000, AtWork);
        check(&[10_000, 25_001], 37_000, Idle);
        check(&[10_000, 25_001], 40_001, Idle);
        // Continuous import: the first 50 ms of each second are used.
        check(&[9_000, 9_200, 9_400], 9_500, AtWork);
        check(&[9_000, 9_200, 9_400], 10_049, Shared);
        check(&[9_000, 9_200, 9_400], 10_050, AtWork);
        // One late poll does not change that; two longer intervals do, or two seconds.
        check(&[9_000, 9_200, 9_900], 10_000, Shared);
        check(&[9_000, 9_200, 9_900], 10_100, AtWork);
        check(&[9_000, 9_600, 10_200], 10_300, Idle);
        check(&[9_000, 9_200, 9_400], 11_400, Idle);
        // A clock that was read slightly after the move was recorded.
        check(&[9_000, 21_000], 20_999, Idle);
    }

    #[test]
    fn only_a_node_that_kept_up_falls_behind() {
        let mut pressure = Pressure::default();
        assert!(!pressure.is_late(1_000));
        assert!(!pressure.is_late(29));
        assert!(!pressure.is_late(84));
        assert!(pressure.is_late(85));
    }

    #[test]
    fn a_gate_that_never_closes_lets_everybody_pass() {
        let stop = Stop::default();
        let gate = Gate::new(false);
        gate.close_because(Some(PauseReason::NodeBehind));
        assert_eq!(gate.wait_on_thread(&stop), Ok(()));
        let gate = Gate::new(true);
        gate.close_because(Some(PauseReason::NodeBehind));
        stop.set();
        assert_eq!(gate.wait_on_thread(&stop), Err(Stopped));
    }
}
