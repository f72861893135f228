//! The numbers modulo n, the order of secp256k1's group, eight scalars at a time, multiplied in
//! Montgomery's way with R = 2^260.
//!
//! Source: SEC 2 version 2, section 2.4.1, for n; Montgomery, "Modular Multiplication Without Trial
//! Division" (1985), limb by limb as in Koç, Acar, Kaliski, "Analyzing and Comparing Montgomery
//! Multiplication Algorithms" (1996), section 5, where it is called SOS.

use super::lanes::Lanes;
use super::limbs::{self, BITS, Limbs, product, rotate, signed_carry};
use alloy_primitives::{U256, uint};

/// The group's order.
pub(super) const N: U256 =
    uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
const N_LIMBS: [u64; 5] = limbs::limbs(&N);

/// -1 / n mod 2^52.
const N_INVERSE_NEGATED: u64 = 0xd_ff66_5588_b13f;

/// 2^519 mod n: takes a plain inverse to R / 2 times it.
const HALF_R_R: U256 =
    uint!(0xb38e6ac0e34de2f34bfaf22de683e39d290412bdd65b6a1044603b4c7b60be32_U256);

/// `a b / R`, below n + a b / R, with limbs below 2^52 as those of a and b are.
#[inline(always)]
pub(super) fn montgomery<L: Lanes>(a: &Limbs<L>, b: &Limbs<L>) -> Limbs<L> {
    let n: Limbs<L> = limbs::splat(&N_LIMBS);
    let mut z = product(a, b);
    for i in 0..5 {
        // What takes column i to a multiple of 2^52.
        let m = L::splat(0).add_low(z[i].factor(), L::splat(N_INVERSE_NEGATED));
        for j in 0..5 {
            z[i + j] = z[i + j].add_low(m, n[j]);
            z[i + j + 1] = z[i + j + 1].add_high(m, n[j]);
        }
        z[i + 1] = z[i + 1] + (z[i] >> BITS);
    }
    limbs::carry([z[5], z[6], z[7], z[8], z[9]])
}

/// `a - n` where that is not negative, else `a`. The limbs of `a` may be negative and are carried.
#[inline(always)]
pub(super) fn reduce_once<L: Lanes>(a: Limbs<L>) -> Limbs<L> {
    let a = signed_carry(a);
    let mut reduced = a;
    for (limb, n) in reduced.iter_mut().zip(N_LIMBS) {
        *limb = limb.signed_sub(L::splat(n));
    }
    let reduced = signed_carry(reduced);
    limbs::choose(reduced[4].negative(), &a, &reduced)
}

/// Each lane's (R / 2) / x, where x is not zero, with one inversion for all: the lanes' product is
/// made in three steps, and the product of the others takes its inverse to the lane's.
#[inline(always)]
pub(super) fn half_inverse<L: Lanes>(x: &Limbs<L>) -> Limbs<L> {
    let fours = rotate::<4, L>(x);
    let pairs = montgomery(x, &fours);
    let pairs_rotated = rotate::<2, L>(&pairs);
    let quads = montgomery(&pairs, &pairs_rotated);
    let quads_rotated = rotate::<1, L>(&quads);
    let all = reduce_once(montgomery(&quads, &quads_rotated));
    let others = montgomery(&montgomery(&fours, &pairs_rotated), &quads_rotated);
    let inverse = limbs::first(&all).inv_mod(N).expect("no lane is zero, and n is a prime");
    let inverse =
        montgomery(&limbs::splat(&limbs::limbs(&inverse)), &limbs::splat(&limbs::limbs(&HALF_R_R)));
    montgomery(&others, &inverse)
}
