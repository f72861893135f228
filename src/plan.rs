//! Which ranges to build next, and from what source. Pure: the requested, stored and final blocks
//! and those in the freezer go in; aligned pieces come out.

#[cfg(test)]
mod tests;

use crate::store::RANGE_MIN;

/// Blocks of a range built in one go: a kill costs at most this many for each one in progress.
const BACKFILL: u64 = 1_000;

/// No block number exceeds this: sums of smaller numbers do not overflow, and they fit a table's
/// column.
pub(crate) const BLOCK_MAX: u64 = i64::MAX as u64 / 2;

/// The source of a piece's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The tail's own files.
    Tail,
    /// geth's freezer, or the era files next to it.
    Freezer,
    /// geth's socket.
    Node,
}

/// Which pieces come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The chain is stored from its first requested block on, and grows upwards.
    #[default]
    OldestFirst,
    /// The most useful part is available soonest: the chain grows downwards.
    NewestFirst,
}

/// An aligned range to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First block, a multiple of the piece's length.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// The source of all of it.
    pub source: Source,
}

/// What is known when pieces are planned. Intervals are of first and last block.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The first requested block, a multiple of [`RANGE_MIN`].
    pub requested_first: u64,
    /// The last requested block; `None` for all that can be sealed.
    pub requested_last: Option<u64>,
    /// The last block that can be sealed.
    pub finalized: Option<u64>,
    /// What can be read from geth's freezer and the era files next to it, ascending.
    pub in_freezer: Vec<(u64, u64)>,
    /// Sealed ranges and failed pieces, ascending, without overlaps.
    pub settled: Vec<(u64, u64)>,
    /// Damaged sealed ranges, to be rebuilt as they were; they are also in `settled`.
    pub damaged: Vec<(u64, u64)>,
    /// Sealed ranges that lack a requested table, ascending.
    pub lacking: Vec<(u64, u64)>,
    /// Pieces being built.
    pub in_progress: Vec<Piece>,
    /// The tail.
    pub tail: Option<(u64, u64)>,
    /// Which pieces come first.
    pub order: Order,
}

impl Known {
    /// The pieces to build, in order. Those that the tail waits for come first, ascending.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        let (below, above): (Vec<_>, Vec<_>) =
            self.gaps().into_iter().partition(|(first, _)| !self.is_above(*first));
        let above = above.into_iter().flat_map(|gap| self.ascending(gap));
        let below = below.into_iter();
        let (oldest, newest) = match self.order {
            Order::OldestFirst => {
                (Some(below.flat_map(|gap| self.ascending(gap)).chain(above)), None)
            }
            Order::NewestFirst => {
                (None, Some(above.chain(below.rev().flat_map(|gap| self.descending(gap)))))
            }
        };
        oldest.into_iter().flatten().chain(newest.into_iter().flatten())
    }

    /// The ranges to rebuild, for tables they lack.
    pub(crate) fn additions(&self) -> impl Iterator<Item = Piece> {
        self.once_more(&self.lacking)
    }

    /// The damaged ranges to rebuild.
    pub(crate) fn rebuilds(&self) -> impl Iterator<Item = Piece> {
        self.once_more(&self.damaged)
    }

    /// Whether damaged ranges are rebuilt before new ones, except for a few pieces that the tail
    /// waits for.
    pub(crate) fn rebuilds_first(&self) -> bool {
        const FEW: usize = 10;
        !self.tail_waits() || self.pieces().nth(FEW).is_some()
    }

    /// Complete ranges that can be sealed again and are not in progress.
    fn once_more<'a>(&'a self, ranges: &'a [(u64, u64)]) -> impl Iterator<Item = Piece> {
        let is_final = |last: u64| self.finalized.is_some_and(|finalized| last <= finalized);
        let started = |first| self.in_progress.iter().any(|piece| piece.first == first);
        let ranges = ranges.iter().filter(move |(first, last)| is_final(*last) && !started(*first));
        ranges.map(|&(first, last)| self.piece(first, last))
    }

    /// The next block of the tail: where it continues, or where it begins.
    pub fn tail_next(&self) -> u64 {
        if let Some((_, last)) = self.tail {
            return last.saturating_add(1);
        }
        let after_settled = self.settled.last().map(|(_, last)| last.saturating_add(1));
        match (self.order, after_settled) {
            (_, Some(next)) => next.max(self.requested_first),
            (Order::OldestFirst, None) => self.requested_first,
            // Nothing below needs to be stored: it begins where nothing can be sealed.
            (Order::NewestFirst, None) => self
                .last()
                .map_or(0, |last| (last + 1) / RANGE_MIN * RANGE_MIN)
                .max(self.requested_first),
        }
    }

    /// Whether ranges must be built before the tail can continue: what is published stays one run
    /// of blocks.
    pub fn tail_waits(&self) -> bool {
        let next = self.tail_next();
        let waits_for = |piece: &Piece| piece.source != Source::Tail && piece.last >= next;
        // From the piece on that may contain the next block: there may be millions below it.
        let gaps = self.gaps().into_iter().filter(|(_, last)| *last >= next);
        let gaps = gaps.map(|(first, last)| (first.max(next / BACKFILL * BACKFILL), last));
        self.in_progress.iter().any(waits_for)
            || gaps.flat_map(|gap| self.ascending(gap)).any(|piece| waits_for(&piece))
    }

    /// Blocks of all the pieces to build.
    pub(crate) fn blocks_left(&self) -> u64 {
        let hundreds = self.gaps().into_iter().filter_map(|gap| hundreds_in(Some(gap)));
        hundreds.map(|(first, end)| end - first).sum()
    }

    /// The last requested block that can be sealed.
    fn last(&self) -> Option<u64> {
        let finalized = self.finalized?;
        Some(self.requested_last.map_or(finalized, |last| last.min(finalized)).min(BLOCK_MAX))
    }

    /// Requested blocks that are neither settled nor in progress, ascending.
    fn gaps(&self) -> Vec<(u64, u64)> {
        let Some(limit) = self.last() else { return Vec::new() };
        let mut taken = self.settled.clone();
        taken.extend(self.in_progress.iter().map(|piece| (piece.first, piece.last)));
        taken.sort_unstable();
        let mut gaps = Vec::new();
        let mut next = self.requested_first;
        for (first, last) in taken {
            if next < first && next <= limit {
                gaps.push((next, limit.min(first - 1)));
            }
            next = next.max(last.saturating_add(1));
        }
        gaps.extend((next <= limit).then_some((next, limit)));
        gaps
    }

    /// Whether a block is above everything that is settled, if anything is.
    fn is_above(&self, block: u64) -> bool {
        self.settled.last().is_some_and(|(_, last)| block > *last)
    }

    fn ascending(&self, (first, last): (u64, u64)) -> impl Iterator<Item = Piece> {
        let mut next = first.next_multiple_of(RANGE_MIN);
        std::iter::from_fn(move || {
            let piece = self.piece_with(next, (first, last))?;
            next = piece.last + 1;
            Some(piece)
        })
    }

    fn descending(&self, (first, last): (u64, u64)) -> impl Iterator<Item = Piece> {
        let mut end = (last + 1) / RANGE_MIN * RANGE_MIN;
        std::iter::from_fn(move || {
            let piece = self.piece_with(end.checked_sub(RANGE_MIN)?, (first, last))?;
            end = piece.first;
            Some(piece)
        })
    }

    /// The piece of a gap with the 100 blocks that begin at `hundred`: 1,000 blocks if all of them
    /// are in the gap and have one source, otherwise only the 100.
    fn piece_with(&self, hundred: u64, (first, last): (u64, u64)) -> Option<Piece> {
        let thousand = hundred / BACKFILL * BACKFILL;
        if thousand >= first && thousand + BACKFILL - 1 <= last && self.is_of_one_source(thousand) {
            return Some(self.piece(thousand, thousand + BACKFILL - 1));
        }
        let hundred_last = hundred + RANGE_MIN - 1;
        (hundred >= first && hundred_last <= last).then(|| self.piece(hundred, hundred_last))
    }

    /// Whether no 100 blocks of these 1,000 are sealed from the tail, and either all or none of
    /// them are in the freezer.
    fn is_of_one_source(&self, thousand: u64) -> bool {
        let last = thousand + BACKFILL - 1;
        let touches = |interval: Option<(u64, u64)>| {
            hundreds_in(interval).is_some_and(|(first, end)| first <= last && end > thousand)
        };
        let is_in_freezer_in_part = self.in_freezer.iter().any(|interval| touches(Some(*interval)));
        !touches(self.tail) && (!is_in_freezer_in_part || self.is_in_freezer(thousand, last))
    }

    fn is_in_freezer(&self, first: u64, last: u64) -> bool {
        self.in_freezer.iter().any(|interval| covers(Some(*interval), first, last))
    }

    fn piece(&self, first: u64, last: u64) -> Piece {
        let source = match () {
            () if covers(self.tail, first, last) => Source::Tail,
            // Blocks in the tail are taken from there, and the rest from where the tail came from.
            () if self.tail.is_some_and(|(from, to)| from <= last && first <= to) => Source::Node,
            () if self.is_in_freezer(first, last) => Source::Freezer,
            () => Source::Node,
        };
        Piece { first, last, source }
    }
}

fn covers(interval: Option<(u64, u64)>, first: u64, last: u64) -> bool {
    interval.is_some_and(|(from, to)| from <= first && last <= to)
}

/// First block and end of the complete hundreds in an interval, if there are any.
fn hundreds_in(interval: Option<(u64, u64)>) -> Option<(u64, u64)> {
    let (first, last) = interval?;
    let (first, end) = (
        first.checked_next_multiple_of(RANGE_MIN)?,
        last.saturating_add(1) / RANGE_MIN * RANGE_MIN,
    );
    (first < end).then_some((first, end))
}
