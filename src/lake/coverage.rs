//! `coverage` of a lake: what is published of it, as far as the lake goes.

/// An interval of blocks of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub first: u64,
    pub last: u64,
    /// `held`, `partial`, `failed` or `missing`.
    pub status: String,
    pub reason: Option<String>,
}

/// Said of blocks that are stored, but not in the lake.
const NOT_HERE: &str =
    "stored, but not in this lake: not in a sealed range, or never among `--tables`";

/// Said of blocks that the lake holds before `coverage` is published again.
const NOT_PUBLISHED: &str = "not published yet";

/// The published intervals of a table, ascending, up to the lake's last block. What is stored and
/// not `in_lake` is missing here; what is in the lake and not published yet is held where it is
/// `complete`.
pub(super) fn clipped(
    published: &[Interval],
    in_lake: &[(u64, u64)],
    complete: &[(u64, u64)],
    last: u64,
) -> Vec<Interval> {
    let mut clipped = Vec::new();
    let mut next = 0;
    for interval in published.iter().filter(|interval| interval.first <= last) {
        let whole = Interval { last: interval.last.min(last), ..interval.clone() };
        next = next.max(whole.last.saturating_add(1));
        if !["held", "partial"].contains(&whole.status.as_str()) {
            push(&mut clipped, whole);
            continue;
        }
        for (first, last, is_inside) in pieces((whole.first, whole.last), in_lake) {
            push(
                &mut clipped,
                match is_inside {
                    true => Interval { first, last, ..whole.clone() },
                    false => missing(first, last),
                },
            );
        }
    }
    let later = in_lake.iter().filter(|(_, top)| *top >= next);
    for (first, top) in later {
        for (first, last, is_complete) in pieces((next.max(*first), *top), complete) {
            let (status, reason) = match is_complete {
                true => ("held", None),
                false => ("partial", Some(NOT_PUBLISHED.to_owned())),
            };
            push(&mut clipped, Interval { first, last, status: status.to_owned(), reason });
        }
    }
    clipped
}

fn missing(first: u64, last: u64) -> Interval {
    Interval { first, last, status: "missing".to_owned(), reason: Some(NOT_HERE.to_owned()) }
}

/// Appends an interval, joined with the one before it if it says the same.
fn push(intervals: &mut Vec<Interval>, next: Interval) {
    match intervals.last_mut() {
        Some(last)
            if last.last + 1 == next.first
                && (&last.status, &last.reason) == (&next.status, &next.reason) =>
        {
            last.last = next.last;
        }
        _ => intervals.push(next),
    }
}

/// An interval cut where others, which are ascending, begin and end: each piece with whether it is
/// inside one of them.
fn pieces((first, last): (u64, u64), others: &[(u64, u64)]) -> Vec<(u64, u64, bool)> {
    let mut pieces = Vec::new();
    let mut next = first;
    for (bottom, top) in others.iter().filter(|(bottom, top)| *top >= first && *bottom <= last) {
        if *bottom > next {
            pieces.push((next, bottom - 1, false));
        }
        pieces.push((next.max(*bottom), last.min(*top), true));
        next = top.saturating_add(1);
    }
    if next <= last {
        pieces.push((next, last, false));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::{Interval, NOT_HERE, NOT_PUBLISHED, clipped};

    fn interval(first: u64, last: u64, status: &str, reason: Option<&str>) -> Interval {
        Interval { first, last, status: status.to_owned(), reason: reason.map(str::to_owned) }
    }

    #[test]
    fn coverage_ends_with_the_lake_and_names_what_it_lacks() {
        let held = |first, last| interval(first, last, "held", None);
        let not_here = |first, last| interval(first, last, "missing", Some(NOT_HERE));
        let check =
            |published: &[Interval], in_lake: &[(u64, u64)], last, expected: &[Interval]| {
                assert_eq!(clipped(published, in_lake, in_lake, last), expected);
            };
        check(&[held(0, 350)], &[(0, 299)], 299, &[held(0, 299)]);
        check(&[held(0, 350)], &[(100, 299)], 299, &[not_here(0, 99), held(100, 299)]);
        check(&[held(0, 350)], &[(0, 99)], 299, &[held(0, 99), not_here(100, 299)]);
        check(&[held(0, 350)], &[], 299, &[not_here(0, 299)]);
        let failed = interval(100, 199, "failed", Some("why"));
        let published = [held(0, 99), failed.clone(), held(200, 399)];
        check(&published, &[(0, 99), (200, 299)], 299, &[held(0, 99), failed, held(200, 299)]);
        // The lake is ahead of what is published.
        check(&[held(0, 99)], &[(0, 299)], 299, &[held(0, 299)]);
        let found = clipped(&[held(0, 99)], &[(0, 199)], &[(0, 149)], 199);
        let partial = interval(150, 199, "partial", Some(NOT_PUBLISHED));
        assert_eq!(found, [held(0, 149), partial]);
    }
}
