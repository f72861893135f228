//! When building in the background pauses: while the node is slow to answer, or falls behind. And how much it asks of a node that
//! imports blocks.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// An answer about the head that takes longer is a sign of a node in need of the machine.
pub const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Age of the head, in seconds, below which a node keeps up.
const KEEPS_UP_S: u64 = 30;

/// Age of the head at which a node that kept up has fallen behind, in seconds: seven slots.
const BEHIND_S: u64 = 84;

/// How long after its head has moved a node may still be at work on it.
const AT_WORK: Duration = Duration::from_secs(2);

/// How long without a block until none is expected any more.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// How many times the time that an answer took a node is left alone after it, while it is at work on a block. It answers at its own
/// priority, and what it does for us it does not do for its block.
const LEFT_ALONE: u32 = 16;

/// How a node is asked for blocks that nobody waits for: many at a time, or one at a time and with pauses while it is at work on
/// a block of its own, or is about to be.
#[derive(Debug)]
pub struct Pace {
    /// When its head was last seen to move, and how long after the time before.
    head: Mutex<Option<(Instant, Duration)>>,
    turn: Semaphore,
}

impl Default for Pace {
    fn default() -> Self {
        Self { head: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Pace {
    /// Notes that the node's head has moved.
    pub fn moved(&self) {
        let mut head = self.head.lock().expect("nothing panics while holding it");
        let period = head.map_or(GIVEN_UP, |(at, _)| at.elapsed());
        *head = Some((Instant::now(), period));
    }

    /// Whether the node may be at work on a block: it has just got one, or the next is due.
    fn is_at_work(&self) -> bool {
        let head = self.head.lock().expect("nothing panics while holding it");
        head.is_some_and(|(at, period)| {
            let age = at.elapsed();
            age < AT_WORK || (age > period * 3 / 4 && age < GIVEN_UP)
        })
    }

    /// Asks when it is time to.
    pub async fn keep<T>(&self, asked: impl Future<Output = T>) -> T {
        if !self.is_at_work() {
            return asked.await;
        }
        let _turn = self.turn.acquire().await.expect("the semaphore is never closed");
        let start = Instant::now();
        let answer = asked.await;
        if self.is_at_work() {
            tokio::time::sleep(start.elapsed() * LEFT_ALONE).await;
        }
        answer
    }
}

/// What workers pass between two blocks.
#[derive(Debug, Default)]
pub struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// Opens or closes it; says whether that changed anything.
    pub fn set_closed(&self, closed: bool) -> bool {
        let mut now = self.closed.lock().expect("nothing panics while holding it");
        let changed = *now != closed;
        *now = closed;
        self.changed.notify_all();
        changed
    }

    /// Waits, on a worker's thread, until it is open or `stopped` says so.
    pub fn wait_on_thread(&self, stopped: &dyn Fn() -> bool) {
        let mut closed = self.closed.lock().expect("nothing panics while holding it");
        while *closed && !stopped() {
            let waited = self.changed.wait_timeout(closed, Duration::from_millis(100));
            closed = waited.expect("nothing panics while holding it").0;
        }
    }

    /// Waits until it is open.
    pub async fn wait(&self) {
        while *self.closed.lock().expect("nothing panics while holding it") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What was seen of the node's own progress.
#[derive(Debug, Default)]
pub struct Pressure {
    /// Whether its head was ever recent: a node that never kept up is not slowed down by us.
    kept_up: bool,
}

impl Pressure {
    /// Whether the head of a node that kept up is too old by now.
    pub fn is_late(&mut self, head_age_s: u64) -> bool {
        self.kept_up |= head_age_s < KEEPS_UP_S;
        self.kept_up && head_age_s > BEHIND_S
    }
}
