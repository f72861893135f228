//! Points of single lanes, as stored in tables.
//!
//! Each lane needs a different entry of a table. So an entry is one lane's point in 64 bytes, a
//! cache line, and eight entries are transposed into lanes, which is faster than gathering word by
//! word.

use super::field::Element;
use super::lanes::{LANES, Lanes, Mask};
use super::limbs::{pack, unpack};
use super::point::{Affine, negate_where};

/// A point: x and y, four 64-bit words each, lowest first.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Packed(pub(super) [u64; 8]);

/// The points of eight lanes, negated in the lanes of the mask.
#[inline(always)]
pub(super) fn gather<L: Lanes>(entries: [&Packed; LANES], negative: Mask) -> Affine<L> {
    let words = transposed(entries);
    let y = unpack::<L>(&words[4..]);
    Affine { x: Element(unpack(&words[..4])), y: Element(negate_where(negative, &y)) }
}

/// Only the x of the same points.
#[inline(always)]
pub(super) fn gather_x<L: Lanes>(entries: [&Packed; LANES]) -> Element<L> {
    Element(unpack(&transposed::<L>(entries)[..4]))
}

/// Writes one entry per lane, from coordinates below 2^256.
#[inline(always)]
pub(super) fn scatter<L: Lanes>(x: &Element<L>, y: &Element<L>, entries: &mut [Packed; LANES]) {
    let (x, y) = (pack(&x.0), pack(&y.0));
    let rows = L::transpose([x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3]]);
    for (entry, row) in entries.iter_mut().zip(rows) {
        entry.0 = row.store();
    }
}

#[inline(always)]
fn transposed<L: Lanes>(entries: [&Packed; LANES]) -> [L; LANES] {
    let mut rows = [L::splat(0); LANES];
    for (row, entry) in rows.iter_mut().zip(entries) {
        *row = L::load(&entry.0);
    }
    L::transpose(rows)
}
