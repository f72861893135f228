//! The scalars: the key is (s / r) R - (hash / r) G.
//!
//! All r of a chunk are inverted in one batch. The endomorphism splits s / r into two halves, each
//! cut into 26 odd signed digits of 5 bits; -hash / r is cut into 32 of 8 bits.
//!
//! Source: SEC 1 version 2, section 4.1.6, for the key.

use super::digits::cut;
use super::generator;
use super::glv::{HALF_BITS, split};
use super::group::Work;
use super::lanes::{Lanes, Stage};
use super::limbs::{self, Limbs};
use super::scalar::{N, half_inverse, montgomery, reduce_once};
use super::{GROUPS, R_WIDTH, R_WINDOWS};
use alloy_primitives::{U256, uint};

/// -(1 + λ) / 2 mod n. Added to half of a scalar, it makes the digits of both halves together
/// represent the scalar; see [`super::digits`].
const OFFSET: U256 = uint!(0x564e29599fd1e78fad6cf1febbf6cdd254405cfe47639ce17067e4085a8941e7_U256);

/// G's `OFFSET`, and n.
const G_OFFSET: [u64; 5] = limbs::limbs(&generator::OFFSET);
const N_LIMBS: [u64; 5] = limbs::limbs(&N);

const _: () = assert!(HALF_BITS as usize == R_WIDTH as usize * R_WINDOWS);

/// Computes the digits of both scalars.
pub(super) struct Scalars;

impl<L: Lanes> Stage<Work<L>> for Scalars {
    #[inline(always)]
    fn run(work: &mut Work<L>) {
        let groups = &mut work.groups[..work.groups_len];
        // Montgomery's trick, as in `inversion`, but no r is zero.
        let mut before = [groups[0].r; GROUPS];
        for at in 1..groups.len() {
            before[at] = montgomery(&before[at - 1], &groups[at].r);
        }
        let mut rest = half_inverse(&before[groups.len() - 1]);
        for at in (0..groups.len()).rev() {
            let group = &mut groups[at];
            let half_inverse = if at == 0 { rest } else { montgomery(&rest, &before[at - 1]) };
            rest = montgomery(&rest, &group.r);

            let mut u = reduce_once(montgomery(&group.s, &half_inverse));
            for (limb, offset) in u.iter_mut().zip(limbs::splat(&OFFSET_LIMBS)) {
                *limb = *limb + offset;
            }
            for (half, digits) in split(&reduce_once(u)).iter().zip(&mut group.r_digits) {
                cut::<R_WIDTH, L>(&[half[0], half[1], half[2], L::splat(0)], digits);
            }

            let mut v: Limbs<L> = reduce_once(montgomery(&group.hash, &half_inverse));
            for i in 0..5 {
                v[i] = L::splat(G_OFFSET[i] + N_LIMBS[i]).signed_sub(v[i]);
            }
            let [a, b, c, d, e] = reduce_once(v);
            let limbs = [a, b, c, d, e, L::splat(0)];
            cut::<{ generator::WIDTH }, L>(&limbs, &mut group.g_digits);
        }
    }
}

const OFFSET_LIMBS: [u64; 5] = limbs::limbs(&OFFSET);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_half_of_the_digits_own() {
        let lambda = uint!(0x5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72_U256);
        assert_eq!(OFFSET.add_mod(OFFSET, N), N - lambda - U256::ONE);
    }
}
