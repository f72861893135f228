//! Adds each window's two entries, from the tables of R and of λ R, into one point, which leaves
//! one addition between the doublings.

use super::group::{Group, Work};
use super::lanes::{LANES, Lanes, Mask, Stage, four};
use super::packed::{Packed, gather, gather_x};
use super::point::{self, Affine};
use super::{R_ENTRIES, R_WINDOWS};

/// Computes the pairs of all windows.
pub(super) struct Pairs;

impl<L: Lanes> Stage<Work<L>> for Pairs {
    #[inline(always)]
    fn run(work: &mut Work<L>) {
        let Work { groups, groups_len, inversion, .. } = work;
        // Two windows of two groups at a time: the tables of two groups fit in the L1 cache.
        let twos = groups[..*groups_len].as_chunks_mut::<2>().0;
        inversion.clear();
        for (at, two) in twos.iter().enumerate() {
            for window in (0..R_WINDOWS).step_by(2) {
                let denominators = four!(k => {
                    let (group, window) = (&two[k / 2], window + k % 2);
                    let x = gather_x(entries(group, 0, window));
                    gather_x(entries(group, 1, window)).minus(&x)
                });
                inversion.push([2 * at, 2 * at, 2 * at + 1, 2 * at + 1], &denominators);
            }
        }
        inversion.invert();
        for two in twos.iter_mut().rev() {
            for window in (0..R_WINDOWS).step_by(2).rev() {
                let inverses = inversion.pop();
                let [g0, g1] = two;
                for group in [&mut *g0, &mut *g1] {
                    group.pairs[window] = entry(group, 0, window);
                    group.pairs[window + 1] = entry(group, 0, window + 1);
                }
                let groups = [&*g0, &*g1];
                let others = four!(k => entry(groups[k / 2], 1, window + k % 2));
                let ([a, b, ..], [c, d, ..]) = (&mut g0.pairs[window..], &mut g1.pairs[window..])
                else {
                    unreachable!("the windows are even in number");
                };
                point::add([a, b, c, d], others.each_ref(), &inverses);
            }
        }
    }
}

/// Each lane's point for its digit in the window. The ladder's sum is negated when it adds a pair,
/// so all entries are negated except the top one, where the ladder starts.
#[inline(always)]
fn entry<L: Lanes>(group: &Group<L>, half: usize, window: usize) -> Affine<L> {
    let turned = if window == R_WINDOWS - 1 { 0 } else { Mask::MAX };
    gather(entries(group, half, window), group.r_digits[half][window].negative ^ turned)
}

/// Each lane's entry for its digit in the window.
#[inline(always)]
fn entries<L: Lanes>(group: &Group<L>, half: usize, window: usize) -> [&Packed; LANES] {
    let table = &group.tables[half];
    let digit = &group.r_digits[half][window];
    let mut entries = [&table[0][0]; LANES];
    for (lane, entry) in entries.iter_mut().enumerate() {
        *entry = &table[usize::from(digit.index[lane]) % R_ENTRIES][lane];
    }
    entries
}

const _: () = assert!(R_WINDOWS.is_multiple_of(2));
