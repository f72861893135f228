//! How much of the processor queries may use while the writer builds history.
//!
//! History is built at idle priority, so clients that ask without pause would stop it. What a query
//! used is known only when it has ended, so one that is long is paid for by those after it. SQL of
//! the clients' own, in processes of their own, is not counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The share of the machine's CPU time.
const SHARE: f64 = 0.07;

/// CPU seconds that may be used at once, after a while without queries: several whole pages.
const BURST_S: f64 = 1.0;

/// How long queries wait at most for what a long one has used: less than their deadline.
const WAIT_MAX_S: f64 = 7.0;

/// CPU seconds at hand.
pub(super) struct Budget {
    /// Seconds gained per second.
    rate: f64,
    is_building: AtomicBool,
    left: Mutex<Left>,
}

struct Left {
    seconds: f64,
    at: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            rate: SHARE * cores as f64,
            is_building: AtomicBool::new(false),
            left: Mutex::new(Left { seconds: BURST_S, at: Instant::now() }),
        }
    }
}

impl Budget {
    /// Says whether the writer builds history; otherwise there is no limit.
    pub(super) fn set_building(&self, is_building: bool) {
        self.is_building.store(is_building, Ordering::Relaxed);
    }

    /// Waits until there is something left.
    pub(super) fn wait(&self) {
        while let Some(wait) = self.wanted(Instant::now()) {
            thread::sleep(wait);
        }
    }

    /// Runs `work`, and counts its CPU time on this thread.
    pub(super) fn spend<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = thread_time();
        let done = work();
        self.take(thread_time().saturating_sub(before), Instant::now());
        done
    }

    /// How long to wait before the next query, if at all.
    fn wanted(&self, now: Instant) -> Option<Duration> {
        if !self.is_building.load(Ordering::Relaxed) {
            return None;
        }
        let owed = -self.take(Duration::ZERO, now);
        (owed >= 0.0).then(|| {
            // The writer may end meanwhile.
            Duration::from_secs_f64((owed / self.rate).clamp(0.001, 0.1))
        })
    }

    /// Takes `used` from what is left by `now`; returns the rest, in seconds.
    fn take(&self, used: Duration, now: Instant) -> f64 {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = self.rate * now.saturating_duration_since(left.at).as_secs_f64();
        let had = (left.seconds + gained).min(BURST_S);
        *left = Left { seconds: (had - used.as_secs_f64()).max(-self.rate * WAIT_MAX_S), at: now };
        left.seconds
    }
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a pointer to a live value.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    debug_assert_eq!(read, 0, "every Linux has this clock");
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_wait_only_while_history_is_built_and_the_burst_is_used_up() {
        let budget = Budget { rate: 0.2, ..Budget::default() };
        let start = Instant::now();
        budget.take(Duration::from_secs(9), start);
        assert_eq!(budget.wanted(start), None, "nothing is built");
        budget.set_building(true);
        assert_eq!(budget.wanted(start), Some(Duration::from_millis(100)), "and looks again");
        // Seven seconds' worth is owed, whatever was used.
        let later = |seconds| start + Duration::from_secs_f64(seconds);
        assert!(budget.wanted(later(6.95)).is_some());
        assert_eq!(budget.wanted(later(7.05)), None);
        // A long pause gives a second, not more.
        budget.take(Duration::from_millis(900), later(1000.0));
        assert_eq!(budget.wanted(later(1000.0)), None);
        budget.take(Duration::from_millis(200), later(1000.0));
        assert!(budget.wanted(later(1000.0)).is_some());
    }

    #[test]
    fn the_time_of_work_on_this_thread_is_counted() {
        let budget = Budget { rate: 0.0, ..Budget::default() };
        let before = thread_time();
        budget.spend(|| while thread_time() - before < Duration::from_millis(50) {});
        let left = budget.take(Duration::ZERO, Instant::now());
        assert!((BURST_S - 0.2..=BURST_S - 0.049).contains(&left), "{left}");
    }
}
