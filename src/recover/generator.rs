//! Fixed tables: the odd multiples of 2^(8 j) G for each of a scalar's 32 digits of 8 bits. With
//! them, multiplying G takes 31 additions and no doubling.
//!
//! The first entry of each table and its double come from libsecp256k1; the others are computed by
//! additions, one window per lane.

use super::QUAD;
use super::digits::Digit;
use super::field::Element;
use super::inversion::Inversion;
use super::lanes::{LANES, Lanes, Stage};
use super::packed::{Packed, gather, scatter};
use super::point::{self, Affine};
use alloy_primitives::{U256, uint};
use secp256k1::{PublicKey, SecretKey};
use std::sync::OnceLock;

/// G's x (SEC 2 version 2, section 2.4.1).
pub(super) const X: U256 =
    uint!(0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798_U256);
/// G's y.
pub(super) const Y: U256 =
    uint!(0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8_U256);

/// Bits of a digit.
pub(super) const WIDTH: u32 = 8;

/// Digits of a scalar, and number of tables.
pub(super) const WINDOWS: usize = 32;

/// Entries of a table.
const ENTRIES: usize = 1 << (WIDTH - 1);

/// (2^256 - 1) / 2 mod n. Added to half of a scalar, it makes the digits represent the scalar; see
/// [`super::digits`].
pub(super) const OFFSET: U256 = uint!(0xa2a8918ca85bafe22016d0b997e4df5f_U256);

/// One table for each digit, 256 KiB in all.
pub(super) struct Generator(Vec<[Packed; ENTRIES]>);

impl Generator {
    /// The tables of this process.
    pub(super) fn get<L: Lanes>() -> &'static Self {
        static TABLES: OnceLock<Generator> = OnceLock::new();
        TABLES.get_or_init(|| {
            let mut build = Build::<L>::new();
            L::call::<AddUp, _>(&mut build);
            Self(build.tables)
        })
    }

    /// Each lane's entry for its digit in the window.
    #[inline(always)]
    pub(super) fn entries(&self, window: usize, digit: &Digit) -> [&Packed; LANES] {
        let table = &self.0[window];
        let mut entries = [&table[0]; LANES];
        for (entry, index) in entries.iter_mut().zip(digit.index) {
            *entry = &table[usize::from(index) % ENTRIES];
        }
        entries
    }
}

/// For each window, eight to a group: the odd multiple reached so far, and twice the first.
struct Build<L> {
    reached: [Affine<L>; QUAD],
    steps: [Affine<L>; QUAD],
    inversion: Inversion<L>,
    tables: Vec<[Packed; ENTRIES]>,
}

impl<L: Lanes> Build<L> {
    fn new() -> Self {
        let mut windows = [[[Packed::default(); LANES]; QUAD]; 2];
        for (twice, groups) in windows.iter_mut().enumerate() {
            for (window, entry) in groups.as_flattened_mut().iter_mut().enumerate() {
                *entry = multiple(U256::ONE << (WIDTH as usize * window + twice));
            }
        }
        let [reached, steps] = windows;
        Self {
            reached: reached.map(|entries| gather(entries.each_ref(), 0)),
            steps: steps.map(|entries| gather(entries.each_ref(), 0)),
            inversion: Inversion::new(1),
            tables: vec![[Packed::default(); ENTRIES]; WINDOWS],
        }
    }
}

/// `scalar * G`, for a scalar in [1, n - 1].
fn multiple(scalar: U256) -> Packed {
    let key = SecretKey::from_secret_bytes(scalar.to_be_bytes()).expect("it is in range");
    let key = PublicKey::from_secret_key(&key).serialize_uncompressed();
    let mut words = [0; 8];
    let (x, y) = words.split_at_mut(4);
    x.copy_from_slice(U256::from_be_slice(&key[1..33]).as_limbs());
    y.copy_from_slice(U256::from_be_slice(&key[33..]).as_limbs());
    Packed(words)
}

struct AddUp;

impl<L: Lanes> Stage<Build<L>> for AddUp {
    #[inline(always)]
    fn run(work: &mut Build<L>) {
        for entry in 0..ENTRIES {
            let mut differences = [Element::one(); QUAD];
            for group in 0..QUAD {
                let Affine { x, y } = work.reached[group];
                let mut points = [Packed::default(); LANES];
                scatter(&x.canonical(), &y.canonical(), &mut points);
                for (lane, point) in points.into_iter().enumerate() {
                    work.tables[LANES * group + lane][entry] = point;
                }
                differences[group] = work.steps[group].x.minus(&x);
            }
            work.inversion.clear();
            work.inversion.push([0; QUAD], &differences);
            work.inversion.invert();
            let inverses = work.inversion.pop();
            point::add(work.reached.each_mut(), work.steps.each_ref(), &inverses);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::portable::Portable;
    use super::super::scalar::N;
    use super::*;

    #[test]
    fn the_offset_is_half_of_the_digits_own() {
        let offset = U256::MAX.reduce_mod(N);
        assert_eq!(OFFSET.add_mod(OFFSET, N), offset);
    }

    #[test]
    fn entries_are_odd_multiples() {
        let tables = &Generator::get::<Portable>().0;
        assert_eq!(tables.len(), WINDOWS);
        for (window, table) in tables.iter().enumerate() {
            for entry in [0, 1, 2, 3, window, 64, 126, 127] {
                let scalar = (U256::from(2 * entry + 1)).mul_mod(U256::ONE << (8 * window), N);
                assert_eq!(table[entry].0, multiple(scalar).0, "{window} {entry}");
            }
        }
    }
}
