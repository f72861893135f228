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

/// A node whose head moves so often is at work on blocks all the time.
const CONTINUOUS: Duration = Duration::from_millis(500);

/// For how long it is still taken for such a node after its head has moved.
const CONTINUES: Duration = Duration::from_secs(2);

/// How long a node is looked at before it is taken for idle.
const UNKNOWN: Duration = Duration::from_secs(1);

/// The longest time between two blocks by which the next is foreseen.
const PERIOD_MAX: Duration = Duration::from_secs(15);

/// Of a node that is always at work the first part of each of these times is taken.
const TURN: Duration = Duration::from_secs(1);
const TURN_TAKEN: Duration = Duration::from_millis(50);

/// How long such a node is left alone after each answer.
const BREATH: Duration = Duration::from_millis(30);

/// How often whoever waits for the node looks whether it is time.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// When blocks are built that nobody waits for: not while the node is at work on a block of its own, or is about to be. It answers at
/// its own priority, what it does for us it does not do for its block, and a core that is busy slows the others, whatever its
/// priority is.
#[derive(Debug)]
pub struct Pace {
    started: Instant,
    head: Mutex<Option<Moves>>,
    turn: Semaphore,
}

/// When the node's head was last seen to move.
#[derive(Clone, Copy, Debug)]
struct Moves {
    at: Instant,
    /// How long that was after the time before, and that after the one before it: whoever looks is late now and then.
    periods: [Duration; 2],
}

/// What the node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// Nothing, as far as can be seen.
    Idle,
    /// It gets a block about now.
    AtWork,
    /// It gets one after the other, or may: a little may be asked of it now.
    Shared,
}

impl Default for Pace {
    fn default() -> Self {
        Self { started: Instant::now(), head: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Pace {
    /// Notes that the node's head has moved.
    pub fn moved(&self) {
        let mut head = self.head.lock().expect("nothing panics while holding it");
        let periods = head.map_or([Duration::MAX; 2], |Moves { at, periods }| [at.elapsed(), periods[0]]);
        *head = Some(Moves { at: Instant::now(), periods });
    }

    fn activity(&self) -> Activity {
        let head = *self.head.lock().expect("nothing panics while holding it");
        let Some(Moves { at, periods }) = head else {
            return if self.started.elapsed() < UNKNOWN { Activity::Shared } else { Activity::Idle };
        };
        let (age, period) = (at.elapsed(), periods[0]);
        if period == Duration::MAX && age < UNKNOWN {
            return Activity::Shared;
        }
        if periods[0].min(periods[1]) < CONTINUOUS && age < CONTINUES {
            let of_turn = self.started.elapsed().as_millis() % TURN.as_millis();
            return if of_turn < TURN_TAKEN.as_millis() { Activity::Shared } else { Activity::AtWork };
        }
        let is_due = period <= PERIOD_MAX && age > period * 3 / 4 && age < period * 2;
        if is_due { Activity::AtWork } else { Activity::Idle }
    }

    /// Asks the node between two of its blocks; one that is always at work on blocks gets one question at a time, with pauses.
    pub async fn ask_between_blocks<T>(&self, asked: impl Future<Output = T>) -> T {
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

    /// Waits, on a worker's thread, until the node is between two blocks, or `stopped` says so.
    pub fn wait_between_blocks(&self, stopped: &dyn Fn() -> bool) {
        while self.activity() == Activity::AtWork && !stopped() {
            std::thread::sleep(LOOK_EVERY);
        }
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
