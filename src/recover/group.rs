//! The state of eight signatures during recovery, one per lane.

use super::digits::Digit;
use super::field::{Element, finish};
use super::generator::{self, Generator};
use super::glv::BETA;
use super::inversion::Inversion;
use super::lanes::{LANES, Lanes, Mask};
use super::limbs::Limbs;
use super::packed::{Packed, scatter};
use super::point::{Affine, Jacobian};
use super::{GROUPS, R_ENTRIES, R_WINDOWS};
use alloy_primitives::Address;

/// Eight signatures.
pub(super) struct Group<L> {
    /// r, in [1, n - 1].
    pub(super) r: Limbs<L>,
    /// s, in [1, n - 1].
    pub(super) s: Limbs<L>,
    /// The hash, below 2^256.
    pub(super) hash: Limbs<L>,
    /// Lanes in which R's y is odd.
    pub(super) y_parity: Mask,
    /// Lanes whose signature has not been found invalid so far.
    pub(super) valid: Mask,
    /// The digits of both halves of s / r.
    pub(super) r_digits: [[Digit; R_WINDOWS]; 2],
    /// The digits of -hash / r.
    pub(super) g_digits: [Digit; generator::WINDOWS],
    /// Multiples of R, indexed by factor: R, and those up to 16 R that are needed.
    pub(super) multiples: [Affine<L>; 17],
    /// The odd multiples of R and of λ R up to 31, with an entry per lane.
    pub(super) tables: [[[Packed; LANES]; R_ENTRIES]; 2],
    /// For each window, the sum of both halves' entries.
    pub(super) pairs: [Affine<L>; R_WINDOWS],
    /// G's entries, added in pairs until the first is the sum of all.
    pub(super) leaves: [Affine<L>; generator::WINDOWS / 2],
    /// The public key, or its negative.
    pub(super) key: Jacobian<L>,
    /// The signers.
    pub(super) addresses: [Address; LANES],
}

/// A chunk's groups, and what they share.
pub(super) struct Work<L> {
    /// Groups in use: a multiple of [`super::QUAD`].
    pub(super) groups_len: usize,
    /// All groups.
    pub(super) groups: Vec<Group<L>>,
    /// Batch inversion of all groups' denominators.
    pub(super) inversion: Inversion<L>,
    /// The fixed tables of G.
    pub(super) generator: &'static Generator,
}

impl<L: Lanes> Group<L> {
    /// Stores an odd multiple of R, and λ times it, in the tables.
    #[inline(always)]
    pub(super) fn tabulate(&mut self, number: usize, point: &Affine<L>) {
        let (x, y) = (finish(point.x.0), finish(point.y.0));
        let image = finish(x.times(&Element::splat(&BETA)).0);
        let [entries, images] = &mut self.tables;
        scatter(&x, &y, &mut entries[number / 2]);
        scatter(&image, &y, &mut images[number / 2]);
    }

    fn new() -> Self {
        let one = Element::one();
        let point = Affine { x: one, y: one };
        Self {
            r: one.0,
            s: one.0,
            hash: one.0,
            y_parity: 0,
            valid: 0,
            r_digits: [[Digit::default(); R_WINDOWS]; 2],
            g_digits: [Digit::default(); generator::WINDOWS],
            multiples: [point; 17],
            tables: [[[Packed::default(); LANES]; R_ENTRIES]; 2],
            pairs: [point; R_WINDOWS],
            leaves: [point; generator::WINDOWS / 2],
            key: Jacobian { x: one, y: one, z: one },
            addresses: [Address::ZERO; LANES],
        }
    }
}

impl<L: Lanes> Work<L> {
    /// Allocates a full chunk: about 1.3 MB.
    pub(super) fn new() -> Self {
        Self {
            groups_len: 0,
            groups: (0..GROUPS).map(|_| Group::new()).collect(),
            inversion: Inversion::new(128),
            generator: Generator::get::<L>(),
        }
    }
}
