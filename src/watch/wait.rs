//! How long to wait before a retry.

use std::time::{Duration, Instant};

/// How often to poll the head when there is nothing else to do.
pub(super) const POLL: Duration = Duration::from_millis(250);

/// The longest pause while the node is unreachable, or something else is waited out.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long a node may contradict itself if somebody is waiting for the end.
const DOUBT_MAX: Duration = Duration::from_secs(10);

/// Pauses between tries, each twice as long as the last.
#[derive(Debug)]
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(POLL)
    }
}

impl Pause {
    pub(super) fn next(&mut self) -> Duration {
        let longer = (self.0 * 2).min(PAUSE_MAX);
        std::mem::replace(&mut self.0, longer)
    }
}

/// Since when the node has contradicted itself. It may be a reorganisation between two replies.
#[derive(Debug, Default)]
pub(super) struct Doubt(Option<Instant>);

impl Doubt {
    /// Whether that has lasted too long.
    pub(super) fn lasts(&mut self) -> bool {
        self.0.get_or_insert_with(Instant::now).elapsed() > DOUBT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_two_seconds() {
        let mut pause = Pause::default();
        let pauses: Vec<_> = (0..6).map(|_| pause.next().as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 2_000, 2_000]);
    }
}
