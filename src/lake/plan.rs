//! What has to change in a table of the lake: its files become those of the current ranges.

use super::action::Add;
use super::file_name::FileName;
use serde::Deserialize;
use std::collections::HashSet;

/// A file of a range that the lake holds or is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held<T> {
    /// Its blocks and its content.
    pub name: FileName,
    /// Its number of rows; `None` if the lake does not say.
    pub rows: Option<u64>,
    /// More about it.
    pub file: T,
}

/// Neighbouring files that are replaced together, because their blocks overlap.
#[derive(Clone, Debug)]
pub(super) struct Change<O, N> {
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// Those that the lake holds no longer, ascending.
    pub removes: Vec<Held<O>>,
    /// Those that it holds instead, ascending.
    pub adds: Vec<Held<N>>,
}

/// What a change is, the more remarkable the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Blocks that the lake did not hold.
    New,
    /// The same blocks in fewer files.
    Merge,
    /// The same blocks again, and perhaps more.
    Repair,
    /// Blocks that the lake held are gone.
    Loss,
}

impl Kind {
    /// As `commitInfo` names it: the names that Spark uses, where it has one.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::New => "WRITE",
            Self::Merge => "OPTIMIZE",
            Self::Repair => "REPLACE",
            Self::Loss => "DELETE",
        }
    }
}

/// The number of rows that an add's statistics name.
pub(super) fn rows_of(add: &Add) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rows {
        num_records: u64,
    }
    let rows: Rows = serde_json::from_str(add.stats.as_deref()?).ok()?;
    Some(rows.num_records)
}

/// The changes that make the files `held` those `wanted`, ascending; neither overlap among
/// themselves.
pub(super) fn changes<O: Clone, N: Clone>(
    held: &[Held<O>],
    wanted: &[Held<N>],
) -> Vec<Change<O, N>> {
    let single = |name: &FileName| Change {
        first: name.first,
        last: name.last,
        removes: Vec::new(),
        adds: Vec::new(),
    };
    let contents = |name: &FileName| (name.first, name.last, name.hash.clone());
    let held_already: HashSet<_> = held.iter().map(|held| contents(&held.name)).collect();
    let still_wanted: HashSet<_> = wanted.iter().map(|wanted| contents(&wanted.name)).collect();
    let removes = held
        .iter()
        .filter(|held| !still_wanted.contains(&contents(&held.name)))
        .map(|held| Change { removes: vec![held.clone()], ..single(&held.name) });
    let adds = wanted
        .iter()
        .filter(|wanted| !held_already.contains(&contents(&wanted.name)))
        .map(|wanted| Change { adds: vec![wanted.clone()], ..single(&wanted.name) });
    let mut singles: Vec<_> = removes.chain(adds).collect();
    singles.sort_by_key(|change| change.first);
    let mut changes: Vec<Change<O, N>> = Vec::new();
    for single in singles {
        match changes.last_mut() {
            Some(change) if single.first <= change.last => {
                change.last = change.last.max(single.last);
                change.removes.extend(single.removes);
                change.adds.extend(single.adds);
            }
            _ => changes.push(single),
        }
    }
    changes
}

impl<O, N> Change<O, N> {
    /// What it is.
    pub(super) fn kind(&self) -> Kind {
        let removed = intervals(self.removes.iter().map(|held| &held.name));
        let added = intervals(self.adds.iter().map(|held| &held.name));
        let is_covered = |(first, last): &(u64, u64)| {
            added.iter().any(|(bottom, top)| bottom <= first && last <= top)
        };
        if removed.is_empty() {
            Kind::New
        } else if !removed.iter().all(is_covered) {
            Kind::Loss
        } else if removed == added && self.adds.len() < self.removes.len() {
            Kind::Merge
        } else {
            Kind::Repair
        }
    }

    /// Whether as many rows are added as removed.
    pub(super) fn keeps_count(&self) -> bool {
        let added: Option<u64> = self.adds.iter().map(|held| held.rows).sum();
        let removed = self.removes.iter().map(|held| held.rows).sum();
        added.is_some() && added == removed
    }
}

/// Changes of any tables, as first block, last block and bytes to add, in batches of at most
/// `bytes_max` unless one alone has more: the first and last block of each batch. Changes that
/// overlap are in the same one.
pub(super) fn batches(mut changes: Vec<(u64, u64, u64)>, bytes_max: u64) -> Vec<(u64, u64)> {
    changes.sort_unstable();
    let mut batches: Vec<(u64, u64, u64)> = Vec::new();
    for (first, last, bytes) in changes {
        match batches.last_mut() {
            Some((_, top, total)) if first <= *top || *total + bytes <= bytes_max => {
                *top = last.max(*top);
                *total += bytes;
            }
            _ => batches.push((first, last, bytes)),
        }
    }
    batches.into_iter().map(|(first, last, _)| (first, last)).collect()
}

/// The blocks of files that are ascending and do not overlap, neighbours joined.
pub(super) fn intervals<'a>(names: impl Iterator<Item = &'a FileName>) -> Vec<(u64, u64)> {
    let mut intervals: Vec<(u64, u64)> = Vec::new();
    for name in names {
        match intervals.last_mut() {
            Some((_, last)) if *last + 1 == name.first => *last = name.last,
            _ => intervals.push((name.first, name.last)),
        }
    }
    intervals
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Change, FileName, Held, Kind, batches, changes};

    fn held(first: u64, last: u64, content: &str) -> Held<()> {
        let name = FileName::new(first, last, 1, content);
        Held { name, rows: Some(last - first + 1), file: () }
    }

    fn check(
        have: &[(u64, u64, &str)],
        want: &[(u64, u64, &str)],
        expected: &[(Kind, usize, usize)],
    ) {
        let files = |files: &[(u64, u64, &str)]| -> Vec<_> {
            files.iter().map(|(first, last, content)| held(*first, *last, content)).collect()
        };
        let found: Vec<_> = changes(&files(have), &files(want))
            .iter()
            .map(|change: &Change<(), ()>| (change.kind(), change.removes.len(), change.adds.len()))
            .collect();
        assert_eq!(found, expected, "{have:?} to {want:?}");
    }

    #[test]
    fn changes_are_told_apart() {
        let (a, b, merged) = ((0, 99, "a"), (100, 199, "b"), (0, 199, "ab"));
        check(&[], &[a, b], &[(Kind::New, 0, 1), (Kind::New, 0, 1)]);
        check(&[a, b], &[a, b], &[]);
        check(&[a, b], &[merged], &[(Kind::Merge, 2, 1)]);
        check(&[a, b], &[(0, 99, "a2"), b], &[(Kind::Repair, 1, 1)]);
        check(&[merged], &[a, b], &[(Kind::Repair, 1, 2)]);
        check(&[a, b], &[b], &[(Kind::Loss, 1, 0)]);
        check(&[merged], &[a], &[(Kind::Loss, 1, 1)]);
        // More than the lake held is not only a merge.
        check(&[a], &[merged], &[(Kind::Repair, 1, 1)]);
        check(&[a, (200, 299, "c")], &[(0, 299, "abc")], &[(Kind::Repair, 2, 1)]);
        check(&[a], &[(1_000, 1_999, "k")], &[(Kind::Loss, 1, 0), (Kind::New, 0, 1)]);
    }

    #[test]
    fn batches_are_bounded_and_cut_no_change() {
        let check = |changes: &[(u64, u64, u64)], expected: &[(u64, u64)]| {
            assert_eq!(batches(changes.to_vec(), 10), expected, "{changes:?}");
        };
        check(&[], &[]);
        check(&[(0, 9, 5), (10, 19, 5), (20, 29, 1)], &[(0, 19), (20, 29)]);
        check(&[(0, 9, 50), (10, 19, 5)], &[(0, 9), (10, 19)]);
        check(&[(0, 9, 9), (0, 19, 9), (10, 19, 9), (20, 29, 9)], &[(0, 19), (20, 29)]);
    }

    #[test]
    fn as_many_rows_are_kept_by_a_merge() {
        let found = changes(&[held(0, 99, "a"), held(100, 199, "b")], &[held(0, 199, "ab")]);
        assert!(found[0].keeps_count());
        let mut fewer = held(0, 199, "ab");
        fewer.rows = Some(199);
        assert!(!changes(&[held(0, 99, "a"), held(100, 199, "b")], &[fewer])[0].keeps_count());
    }
}
