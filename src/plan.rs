//! Which ranges to build next. Pure: what is wanted, what is held and what is final go in, pieces come out.

use crate::store::RANGE_MIN;

/// Blocks of a range built from the node in one go: a kill costs at most so many.
const BACKFILL: u64 = 1_000;

/// An aligned range to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First block, a multiple of the piece's length.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// Whether the tail holds all of it: then nothing is fetched.
    pub in_tail: bool,
}

/// What is known when pieces are planned. Intervals are of first and last block.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The first block wanted, a multiple of [`RANGE_MIN`].
    pub wanted_first: u64,
    /// The last block that can be sealed.
    pub finalized: Option<u64>,
    /// Sealed ranges and pieces that failed, ascending, without overlaps.
    pub settled: Vec<(u64, u64)>,
    /// The tail.
    pub tail: Option<(u64, u64)>,
}

impl Known {
    /// The pieces to build, ascending.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        let mut next = self.wanted_first;
        let mut settled = self.settled.iter().copied().peekable();
        let limit = self.finalized;
        std::iter::from_fn(move || {
            loop {
                // Step over what is settled.
                while let Some(&(first, last)) = settled.peek() {
                    if last < next {
                        settled.next();
                    } else if first <= next {
                        next = last + 1;
                        settled.next();
                    } else {
                        break;
                    }
                }
                let limit = limit?;
                let gap_last = settled.peek().map_or(limit, |(first, _)| (first - 1).min(limit));
                let fits = |size: u64| next.is_multiple_of(size) && next + size - 1 <= gap_last;
                let in_tail =
                    |size: u64| self.tail.is_some_and(|(first, last)| first <= next && next + size - 1 <= last);
                if fits(RANGE_MIN) {
                    let size = if fits(BACKFILL) && !in_tail(RANGE_MIN) { BACKFILL } else { RANGE_MIN };
                    let piece = Piece { first: next, last: next + size - 1, in_tail: in_tail(size) };
                    next += size;
                    return Some(piece);
                }
                // The gap ends before a whole piece does: go on after it, if there is anything after it.
                let (_, last) = settled.next()?;
                next = last + 1;
            }
        })
    }

    /// The first block that the tail lacks: where it goes on, or where it begins.
    pub fn tail_next(&self) -> u64 {
        let after_settled = self.settled.last().map_or(0, |(_, last)| last + 1).max(self.wanted_first);
        self.tail.map_or(after_settled, |(_, last)| last + 1)
    }

    /// Whether ranges must be built before the tail can go on: what is published stays one run of blocks.
    pub fn tail_waits(&self) -> bool {
        let next = self.tail_next();
        self.pieces().any(|piece| !piece.in_tail && piece.last >= next)
    }
}
