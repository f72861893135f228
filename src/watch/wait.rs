//! How long is waited before the same is tried again.

use std::time::{Duration, Instant};

/// How often the head is looked at when there is nothing else to do.
pub const POLL: Duration = Duration::from_millis(250);

/// The longest pause while the node is away, or something else is waited out.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long a node may contradict itself where the end is waited for.
const DOUBT_MAX: Duration = Duration::from_secs(10);

/// Pauses between tries, each twice as long as the one before.
#[derive(Debug)]
pub struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(POLL)
    }
}

impl Pause {
    /// The next one.
    pub fn next(&mut self) -> Duration {
        let longer = (self.0 * 2).min(PAUSE_MAX);
        std::mem::replace(&mut self.0, longer)
    }
}

/// Since when a node contradicts itself. It may be a reorganisation that came between two answers.
#[derive(Debug, Default)]
pub struct Doubt(Option<Instant>);

impl Doubt {
    /// Whether it has done so for too long by now.
    pub fn lasts(&mut self) -> bool {
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
