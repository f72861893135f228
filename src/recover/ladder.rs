//! The doublings: from the topmost window down, five and an addition for each; then the multiple of
//! G is added, and the key is there.

use super::group::Work;
use super::lanes::{Lanes, Stage};
use super::point::{add_negated, double_negated};
use super::{R_WIDTH, R_WINDOWS};

/// The keys; as each step gives the negative, so that of the key in the end.
pub(super) struct Ladder;

impl<L: Lanes> Stage<Work<L>> for Ladder {
    #[inline(always)]
    fn run(work: &mut Work<L>) {
        for [g0, g1] in work.groups[..work.groups_len].as_chunks_mut::<2>().0 {
            let top = R_WINDOWS - 1;
            let mut keys = [g0.pairs[top].jacobian(), g1.pairs[top].jacobian()];
            for window in (0..top).rev() {
                // Five times negated and once more: the sum is what it was, and the pairs are
                // negated.
                for _ in 0..R_WIDTH {
                    double_negated(&mut keys);
                }
                add_negated(&mut keys, [&g0.pairs[window], &g1.pairs[window]]);
            }
            add_negated(&mut keys, [&g0.leaves[0], &g1.leaves[0]]);
            [g0.key, g1.key] = keys;
        }
    }
}
