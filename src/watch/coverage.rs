//! What is stored and what is missing.

use super::node::Node;
use super::sealed::Sealed;
use super::state::UNASKED;
use super::tail::Tail;
use crate::rows::coverage::Interval;
use crate::rows::{CHAIN_TABLES, Gap, Lacks, Selection, Table, reorgs};
use crate::store::{Range, lost_reorgs};
use anyhow::Result;
use std::path::Path;

/// The input of `coverage`.
#[derive(Debug)]
pub(super) struct Coverage<'a> {
    pub root: &'a Path,
    /// The tables to make.
    pub tables: Selection,
    pub node: &'a Node,
    pub sealed: &'a Sealed,
    /// Its published ranges.
    pub ranges: &'a [Range],
    pub tail: &'a Tail,
}

impl Coverage<'_> {
    /// The stored and missing intervals of each table, ascending, from the first requested or
    /// stored block to the node's head or the last stored block; plus the number of lost
    /// reorganisation records, if any.
    pub(super) fn intervals(&self) -> Result<Vec<Interval>> {
        let mut all: Vec<_> = CHAIN_TABLES.into_iter().flat_map(|table| self.of(table)).collect();
        all.extend(lost(lost_reorgs(self.root)?, &all));
        Ok(all)
    }

    fn of(&self, table: &Table) -> Vec<Interval> {
        let Self { node, sealed, ranges, tail, .. } = *self;
        let asked = self.tables.has(table);
        let unanchored = (!node.is_anchored()).then(|| "not yet anchored".to_owned());
        let held = |first, last| Interval {
            first,
            last,
            reason: unanchored.clone(),
            ..Interval::held(table.name)
        };
        let mut known: Vec<Interval> = Vec::new();
        for range in ranges.iter().filter(|range| range.tables().has(table)) {
            push_between_gaps(
                &mut known,
                held(range.first, range.last),
                &range.manifest.gaps_of(table),
            );
        }
        if asked {
            if let Some((first, last)) = tail.blocks() {
                push_between_gaps(&mut known, held(first, last), &Gap::of(&tail.gaps, table));
            }
            let failures = sealed.failures.iter().map(|(&(first, last), failure)| Interval {
                table: table.name,
                first,
                last,
                status: failure.status,
                reason: Some(failure.reason.clone()),
                lacks: Some(Lacks::Rows),
            });
            let rebuilds = sealed
                .rebuilds_requested()
                .filter(|rebuild| !sealed.failures.contains_key(&(rebuild.first, rebuild.last)));
            let rebuilds = rebuilds.map(|rebuild| Interval {
                table: table.name,
                first: rebuild.first,
                last: rebuild.last,
                status: "missing",
                reason: Some(format!(
                    "damaged, being rebuilt; the old files are in `{}`",
                    rebuild.path.display()
                )),
                lacks: Some(Lacks::Rows),
            });
            known.sort_unstable_by_key(|interval| interval.first);
            let new: Vec<_> =
                failures.chain(rebuilds).flat_map(|failure| outside(failure, &known)).collect();
            known.extend(new);
        }
        if node.is_traced() {
            for reason in known.iter_mut().filter_map(|interval| interval.reason.as_mut()) {
                if UNASKED.contains(&&reason[..]) {
                    *reason = format!("{reason}; {}", node.remedy(self.root));
                }
            }
        }
        known.sort_unstable_by_key(|interval| interval.first);
        let lowest = ranges.first().map(|range| range.first).or(tail.first());
        let is_cut = ranges.len() < sealed.ranges.len();
        let mut next = match lowest {
            Some(lowest) if is_cut => sealed.requested_first.max(lowest),
            Some(lowest) => sealed.requested_first.min(lowest),
            None => sealed.requested_first,
        };
        let mut whole: Vec<Interval> = Vec::new();
        for interval in known {
            if interval.first > next {
                self.push_missing(&mut whole, table, next, interval.first - 1);
            }
            next = interval.last.saturating_add(1);
            push_joined(&mut whole, interval);
        }
        if let Some(last) = self.last().filter(|last| *last >= next) {
            self.push_missing(&mut whole, table, next, last);
        }
        whole
    }

    /// The last block to report: the node's head, or the last stored block if the head went back
    /// below it.
    fn last(&self) -> Option<u64> {
        let head = self.node.head.map(|head| head.number);
        let stored = self.tail.blocks().map(|(_, last)| last);
        head.max(stored).max(self.ranges.last().map(|range| range.last))
    }

    /// Appends a gap, clipped to the requested blocks.
    fn push_missing(&self, whole: &mut Vec<Interval>, table: &Table, first: u64, last: u64) {
        let requested_first = self.sealed.requested_first;
        let requested_end = self.sealed.requested_last.map_or(u64::MAX, |last| last + 1);
        let mut next = first;
        for end in [requested_first, requested_end, u64::MAX] {
            let end = end.min(last + 1);
            if next < end {
                let wanted =
                    (requested_first..requested_end).contains(&next) && self.tables.has(table);
                let reason = if wanted { "not read yet" } else { "not requested" };
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

/// The number of lost reorganisation records. Which blocks they were about is no longer known.
fn lost(count: usize, covered: &[Interval]) -> Option<Interval> {
    let first = covered.iter().map(|interval| interval.first).min()?;
    let last = covered.iter().map(|interval| interval.last).max()?;
    let reason =
        format!("{count} records of reorganisations were damaged or deleted: see `quarantine/`");
    let (reason, lacks) = (Some(reason), Some(Lacks::Rows));
    (count > 0).then(|| Interval {
        first,
        last,
        status: "partial",
        reason,
        lacks,
        ..Interval::held(reorgs::TABLE.name)
    })
}

/// Appends an interval, merging it into the last if they are adjacent and have the same status and
/// reason.
fn push_joined(whole: &mut Vec<Interval>, interval: Interval) {
    let says = |interval: &Interval| (interval.status, interval.reason.clone(), interval.lacks);
    match whole.last_mut() {
        Some(last) if last.last + 1 == interval.first && says(last) == says(&interval) => {
            last.last = interval.last
        }
        _ => whole.push(interval),
    }
}

/// The parts of an interval that are in none of `others`, which are ascending.
fn outside(whole: Interval, others: &[Interval]) -> Vec<Interval> {
    let mut parts = Vec::new();
    let mut next = whole.first;
    for other in
        others.iter().filter(|other| other.last >= whole.first && other.first <= whole.last)
    {
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

/// Appends the stored intervals between gaps, and the gaps. A block that was not traced still has
/// what its transactions themselves moved.
fn push_between_gaps(known: &mut Vec<Interval>, whole: Interval, gaps: &[Gap]) {
    let mut next = whole.first;
    for gap in gaps {
        if next < gap.first {
            known.push(Interval { first: next, last: gap.first - 1, ..whole.clone() });
        }
        let status = if gap.lacks() == Lacks::Rows { "missing" } else { "partial" };
        let (reason, lacks) = (Some(gap.reason.clone()), Some(gap.lacks()));
        known.push(Interval {
            table: whole.table,
            first: gap.first,
            last: gap.last,
            status,
            reason,
            lacks,
        });
        next = gap.last + 1;
    }
    if next <= whole.last {
        known.push(Interval { first: next, ..whole });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "balances";

    fn held(first: u64, last: u64) -> Interval {
        Interval { first, last, ..Interval::held(TABLE) }
    }

    fn missing(first: u64, last: u64, reason: &str) -> Interval {
        let (reason, lacks) = (Some(reason.to_owned()), Some(Lacks::Rows));
        Interval { table: TABLE, first, last, status: "missing", reason, lacks }
    }

    /// Intervals as `first-last`, with the reason if there is one.
    fn shown(intervals: &[Interval]) -> String {
        let shown = |Interval { first, last, reason, .. }: &Interval| match reason {
            Some(reason) => format!("{first}-{last} {reason}"),
            None => format!("{first}-{last}"),
        };
        intervals.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn neighbours_that_say_the_same_are_one() {
        let check = |intervals: &[Interval], expected: &str| {
            let mut whole = Vec::new();
            intervals.iter().for_each(|interval| push_joined(&mut whole, interval.clone()));
            assert_eq!(shown(&whole), expected);
        };
        check(&[], "");
        check(&[held(0, 99), held(100, 199), held(200, 299)], "0-299");
        check(&[held(0, 99), held(200, 299)], "0-99, 200-299");
        check(&[held(0, 99), missing(100, 199, "pruned")], "0-99, 100-199 pruned");
        check(&[missing(0, 99, "pruned"), missing(100, 199, "pruned")], "0-199 pruned");
        check(
            &[missing(0, 99, "pruned"), missing(100, 199, "failed")],
            "0-99 pruned, 100-199 failed",
        );
    }

    #[test]
    fn intervals_of_others_are_subtracted() {
        let check = |others: &[(u64, u64)], expected: &str| {
            let others: Vec<_> = others.iter().map(|(first, last)| held(*first, *last)).collect();
            assert_eq!(shown(&outside(held(100, 199), &others)), expected, "{others:?}");
        };
        check(&[], "100-199");
        check(&[(0, 99), (200, 299)], "100-199");
        check(&[(0, 150)], "151-199");
        check(&[(150, 300)], "100-149");
        check(&[(120, 129), (140, 149)], "100-119, 130-139, 150-199");
        check(&[(0, 300)], "");
        check(&[(100, 149), (150, 199)], "");
        check(&[(0, u64::MAX)], "");
    }

    #[test]
    fn gaps_cut_stored_intervals() {
        let check = |gaps: &[(u64, u64)], expected: &str| {
            let gap = |&(first, last): &(u64, u64)| Gap {
                table: TABLE.to_owned(),
                first,
                last,
                reason: "pruned".to_owned(),
                lacks: Lacks::Rows,
            };
            let mut known = Vec::new();
            push_between_gaps(
                &mut known,
                held(100, 199),
                &gaps.iter().map(gap).collect::<Vec<_>>(),
            );
            assert_eq!(shown(&known), expected);
        };
        check(&[], "100-199");
        check(&[(100, 100)], "100-100 pruned, 101-199");
        check(&[(199, 199)], "100-198, 199-199 pruned");
        check(&[(120, 129), (130, 139)], "100-119, 120-129 pruned, 130-139 pruned, 140-199");
        check(&[(100, 199)], "100-199 pruned");
    }
}
