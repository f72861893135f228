//! What is held and what is missing.

use super::session::Session;
use crate::rows::coverage::Interval;

impl Session {
    /// What is held and what is missing, ascending, from the first block wanted to the node's head.
    pub fn coverage(&self) -> Vec<Interval> {
        let held = |first, last| Interval { first, last, status: "held", reason: None };
        let mut known: Vec<Interval> =
            self.ranges[self.kept()..].iter().map(|range| held(range.first, range.last)).collect();
        known.extend(self.tail.first().zip(self.tail.last()).map(|(first, last)| held(first.number, last.number)));
        known.extend(self.failures.iter().map(|(&(first, last), failure)| Interval {
            first,
            last,
            status: failure.status,
            reason: Some(failure.reason.clone()),
        }));
        known.sort_unstable_by_key(|interval| interval.first);
        let mut whole: Vec<Interval> = Vec::new();
        let mut next =
            self.wanted_first.max(known.first().map_or(0, |interval| if self.kept() > 0 { interval.first } else { 0 }));
        let missing =
            |first, last| Interval { first, last, status: "missing", reason: Some("not read yet".to_owned()) };
        for interval in known {
            if interval.first > next {
                whole.push(missing(next, interval.first - 1));
            }
            next = interval.last + 1;
            match whole.last_mut() {
                Some(last) if last.status == "held" && interval.status == "held" && last.last + 1 == interval.first => {
                    last.last = interval.last;
                }
                _ => whole.push(interval),
            }
        }
        if let Some(head) = self.head.filter(|head| head.number >= next) {
            whole.push(missing(next, head.number));
        }
        whole
    }
}
