//! When building in the background pauses: while the node is slow to answer, or falls behind.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// An answer about the head that takes longer is a sign of a node in need of the machine.
pub const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Age of the head, in seconds, below which a node keeps up.
const KEEPS_UP_S: u64 = 30;

/// Age of the head at which a node that kept up has fallen behind, in seconds: seven slots.
const BEHIND_S: u64 = 84;

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
