//! What is held and what is missing.

use super::Task;
use super::session::Session;
use super::state::UNASKED;
use crate::rows::coverage::Interval;
use crate::rows::{CHAIN_TABLES, Gap, Lacks, Table, reorgs};
use crate::store::lost_reorgs;
use anyhow::Result;

impl Session {
    /// What is held and what is missing of each table, ascending, from the first block wanted or held to the node's head.
    pub fn coverage(&self) -> Vec<Interval> {
        CHAIN_TABLES.into_iter().flat_map(|table| self.coverage_of(table)).collect()
    }

    /// That records of reorganisations were lost, where any were. Which blocks they were about nobody knows any more.
    pub fn lost_reorgs<'a>(&self, covered: impl Iterator<Item = &'a Interval>) -> Result<Option<Interval>> {
        let count = lost_reorgs(self.store.root())?;
        let (first, last) =
            covered.fold((u64::MAX, 0), |(first, last), interval| (first.min(interval.first), last.max(interval.last)));
        let reason = format!("{count} records of reorganisations were damaged or are gone: see `quarantine/`");
        let lost = || Interval {
            first,
            last,
            status: "partial",
            reason: Some(reason),
            lacks: Some(Lacks::Rows),
            ..Interval::held(reorgs::TABLE.name)
        };
        Ok((count > 0 && first <= last).then(lost))
    }

    fn coverage_of(&self, table: &Table) -> Vec<Interval> {
        let asked = self.settings.tables.has(table);
        let unanchored = (!self.is_anchored()).then(|| "not yet anchored".to_owned());
        let held = |first, last| Interval { first, last, reason: unanchored.clone(), ..Interval::held(table.name) };
        let ranges = &self.ranges[self.kept()..];
        let mut known: Vec<Interval> = Vec::new();
        for range in ranges.iter().filter(|range| range.tables().has(table)) {
            push_between_gaps(&mut known, held(range.first, range.last), &range.manifest.gaps_of(table));
        }
        if asked {
            if let Some((first, last)) = self.tail.first().zip(self.tail.last()) {
                push_between_gaps(&mut known, held(first.number, last.number), &Gap::of(&self.tail_gaps, table));
            }
            let failures = self.failures.iter().map(|(&(first, last), failure)| Interval {
                table: table.name,
                first,
                last,
                status: failure.status,
                reason: Some(failure.reason.clone()),
                lacks: Some(Lacks::Rows),
            });
            let mends = self.wanted_mends().filter(|mend| !self.failures.contains_key(&(mend.first, mend.last)));
            let mends = mends.map(|mend| Interval {
                table: table.name,
                first: mend.first,
                last: mend.last,
                status: "missing",
                reason: Some(format!("damaged, and built again: the old is in `{}`", mend.path.display())),
                lacks: Some(Lacks::Rows),
            });
            known.sort_unstable_by_key(|interval| interval.first);
            let new: Vec<_> = failures.chain(mends).flat_map(|failure| outside(failure, &known)).collect();
            known.extend(new);
        }
        if self.is_traced() {
            for reason in known.iter_mut().filter_map(|interval| interval.reason.as_mut()) {
                if UNASKED.contains(&&reason[..]) {
                    *reason = format!("{reason}; {}", self.remedy());
                }
            }
        }
        known.sort_unstable_by_key(|interval| interval.first);
        let lowest = ranges.first().map(|range| range.first).or(self.tail.first().map(|link| link.number));
        let mut next = match lowest {
            Some(lowest) if self.kept() > 0 => self.wanted_first.max(lowest),
            Some(lowest) => self.wanted_first.min(lowest),
            None => self.wanted_first,
        };
        let mut whole: Vec<Interval> = Vec::new();
        for interval in known {
            if interval.first > next {
                self.push_missing(&mut whole, table, next, interval.first - 1);
            }
            next = interval.last.saturating_add(1);
            match whole.last_mut() {
                Some(last)
                    if last.status == interval.status
                        && last.reason == interval.reason
                        && last.lacks == interval.lacks
                        && last.last + 1 == interval.first =>
                {
                    last.last = interval.last;
                }
                _ => whole.push(interval),
            }
        }
        if let Some(head) = self.head.filter(|head| head.number >= next) {
            self.push_missing(&mut whole, table, next, head.number);
        }
        whole
    }

    /// Appends a gap, cut where what is wanted begins and ends.
    fn push_missing(&self, whole: &mut Vec<Interval>, table: &Table, first: u64, last: u64) {
        let wanted_end = match self.settings.task {
            Task::Backfill { last: Some(last) } => last + 1,
            _ => u64::MAX,
        };
        let mut next = first;
        for end in [self.wanted_first, wanted_end, u64::MAX] {
            let end = end.min(last + 1);
            if next < end {
                let wanted = (self.wanted_first..wanted_end).contains(&next) && self.settings.tables.has(table);
                let reason = if wanted { "not read yet" } else { "not asked for" };
                let reason = Some(reason.to_owned());
                let lacks = Some(Lacks::Rows);
                whole.push(Interval {
                    table: table.name,
                    first: next,
                    last: end - 1,
                    status: "missing",
                    reason,
                    lacks,
                });
                next = end;
            }
        }
    }
}

/// The parts of an interval that are in none of others, which are ascending.
fn outside(whole: Interval, others: &[Interval]) -> Vec<Interval> {
    let mut parts = Vec::new();
    let mut next = whole.first;
    for other in others.iter().filter(|other| other.last >= whole.first && other.first <= whole.last) {
        if next < other.first {
            parts.push(Interval { first: next, last: other.first - 1, ..whole.clone() });
        }
        next = next.max(other.last.saturating_add(1));
    }
    if next <= whole.last {
        parts.push(Interval { first: next, ..whole });
    }
    parts
}

/// Appends what is held between gaps, and the gaps. Of a block that was not traced what its transactions themselves moved is
/// there all the same.
fn push_between_gaps(known: &mut Vec<Interval>, whole: Interval, gaps: &[Gap]) {
    let mut next = whole.first;
    for gap in gaps {
        if next < gap.first {
            known.push(Interval { first: next, last: gap.first - 1, ..whole.clone() });
        }
        let status = if gap.lacks() == Lacks::Rows { "missing" } else { "partial" };
        let (reason, lacks) = (Some(gap.reason.clone()), Some(gap.lacks()));
        known.push(Interval { table: whole.table, first: gap.first, last: gap.last, status, reason, lacks });
        next = gap.last + 1;
    }
    if next <= whole.last {
        known.push(Interval { first: next, ..whole });
    }
}
