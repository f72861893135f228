//! The main loop: five doublings and one addition per window, from the top window down; then adding
//! the multiple of G gives the key.

use super::group::Work;
use super::lanes::{Lanes, Stage};
use super::point::{add_negated, double_negated};
use super::{R_WIDTH, R_WINDOWS};

/// Computes the keys, negated because each step returns the negative.
pub(super) struct Ladder;

impl<L: Lanes> Stage<Work<L>> for Ladder {
    #[inline(always)]
    fn run(work: &mut Work<L>) {
        for [g0, g1] in work.groups[..work.groups_len].as_chunks_mut::<2>().0 {
            let top = R_WINDOWS - 1;
            let mut keys = [g0.pairs[top].jacobian(), g1.pairs[top].jacobian()];
            for window in (0..top).rev() {
                // Six negations cancel in the sum; the pairs are stored negated, because they take
                // part in only one.
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
