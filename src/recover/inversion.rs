//! Many inversions for the price of one: the denominators are multiplied one after the other, the
//! product is inverted, and on the way back each gets its own inverse out of it, for three
//! multiplications.
//!
//! A denominator that is zero would take all others of its lane with it. It means that two points
//! that are added are the same, or each other's negative, which happens only to who tries. Such a
//! signature is found, named in [`Inversion::exceptional`], and its denominator becomes one.
//!
//! Source: Montgomery, "Speeding the Pollard and Elliptic Curve Methods of Factorization" (1987),
//! section 10.3.1.

use super::field::{Element, P};
use super::lanes::{LANES, Lanes, Mask, Stage, four};
use super::limbs::{self, rotate};
use super::{GROUPS, QUAD};
use alloy_primitives::U256;

/// One denominator each of four groups, or of four times the same.
struct Step<L> {
    denominators: [Element<L>; QUAD],
    /// The product of all before.
    before: [Element<L>; QUAD],
    groups: [usize; QUAD],
}

/// Denominators, first gathered and then, from the last to the first, inverted.
pub(super) struct Inversion<L> {
    steps: Vec<Step<L>>,
    /// How many steps are gathered and not yet taken.
    len: usize,
    /// While they are gathered: the product of all. Then: the inverse of the product of all not yet
    /// taken.
    running: [Element<L>; QUAD],
    /// Whose denominator was zero, of each group.
    pub(super) exceptional: [Mask; GROUPS],
}

impl<L: Lanes> Inversion<L> {
    /// For so many steps.
    pub(super) fn new(steps: usize) -> Self {
        let ones = [Element::one(); QUAD];
        let step = |_| Step { denominators: ones, before: ones, groups: [0; QUAD] };
        Self {
            steps: (0..steps).map(step).collect(),
            len: 0,
            running: ones,
            exceptional: [0; GROUPS],
        }
    }

    /// Begins anew.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.running = [Element::one(); QUAD];
    }

    /// Adds denominators, and says of which group each is.
    #[inline(always)]
    pub(super) fn push(&mut self, groups: [usize; QUAD], denominators: &[Element<L>; QUAD]) {
        let step = &mut self.steps[self.len];
        step.groups = groups;
        for k in 0..QUAD {
            denominators[k].put(&mut step.denominators[k]);
            self.running[k].put(&mut step.before[k]);
            self.running[k] = self.running[k].times(&denominators[k]);
        }
        self.len += 1;
    }

    /// Inverts all that was added.
    #[inline(always)]
    pub(super) fn invert(&mut self) {
        L::call::<Invert, _>(self);
    }

    /// The inverses of what was added last and not taken yet.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> [Element<L>; QUAD] {
        self.len -= 1;
        let step = &self.steps[self.len];
        let inverses = four!(k => self.running[k].times(&step.before[k]));
        for k in 0..QUAD {
            self.running[k] = self.running[k].times(&step.denominators[k]);
        }
        inverses
    }
}

struct Invert;

impl<L: Lanes> Stage<Inversion<L>> for Invert {
    #[inline(always)]
    fn run(work: &mut Inversion<L>) {
        if product(&work.running).zero() != 0 {
            L::call::<Mend, _>(work);
        }
        let [a, b, c, d] = work.running;
        let (ab, cd) = (a.times(&b), c.times(&d));
        let inverse = inverse(&ab.times(&cd));
        let (ab, cd) = (inverse.times(&cd), inverse.times(&ab));
        work.running = [ab.times(&b), ab.times(&a), cd.times(&d), cd.times(&c)];
    }
}

#[inline(always)]
fn product<L: Lanes>([a, b, c, d]: &[Element<L>; QUAD]) -> Element<L> {
    a.times(b).times(&c.times(d))
}

/// Each lane's inverse, none being zero, with one inversion for all: the lanes' product is made in
/// three steps, and the product of the others takes its inverse to the lane's.
#[inline(always)]
fn inverse<L: Lanes>(x: &Element<L>) -> Element<L> {
    let fours = Element(rotate::<4, L>(&x.0));
    let pairs = x.times(&fours);
    let pairs_rotated = Element(rotate::<2, L>(&pairs.0));
    let quads = pairs.times(&pairs_rotated);
    let quads_rotated = Element(rotate::<1, L>(&quads.0));
    let all = quads.times(&quads_rotated).canonical();
    let others = fours.times(&pairs_rotated).times(&quads_rotated);
    let inverse: U256 = limbs::first(&all.0).inv_mod(P).expect("no lane is zero, and p is a prime");
    others.times(&Element::splat(&inverse))
}

/// Finds the denominators that are zero and puts one in their place.
struct Mend;

impl<L: Lanes> Stage<Inversion<L>> for Mend {
    #[inline(always)]
    fn run(work: &mut Inversion<L>) {
        let one = Element::<L>::one();
        work.running = [one; QUAD];
        for step in &mut work.steps[..work.len] {
            step.before = work.running;
            for k in 0..QUAD {
                let zero = step.denominators[k].zero();
                if zero != 0 {
                    work.exceptional[step.groups[k]] |= zero;
                    let mended = limbs::choose(zero, &one.0, &step.denominators[k].0);
                    step.denominators[k] = Element(mended);
                }
                work.running[k] = work.running[k].times(&step.denominators[k]);
            }
        }
    }
}

const _: () = assert!(LANES == 8, "three steps multiply eight lanes");

#[cfg(test)]
mod tests {
    use super::super::portable::Portable;
    use super::*;
    use crate::keccak::Word;

    fn lanes(numbers: [u64; LANES]) -> Element<Portable> {
        let zero = Portable::splat(0);
        Element([Portable::load(&numbers), zero, zero, zero, zero])
    }

    #[test]
    fn each_denominator_is_inverted_and_zeros_are_named() {
        let mut inversion = Inversion::<Portable>::new(20);
        let number = |step, group, lane| match (step, group, lane) {
            (7, 2, 3) | (11, 1, 0) => 0,
            _ => (1 + step * 32 + group * 8 + lane) as u64,
        };
        let element = |step, group| lanes(std::array::from_fn(|lane| number(step, group, lane)));
        inversion.clear();
        for step in 0..20 {
            inversion.push([4, 5, 6, 7], &[0, 1, 2, 3].map(|group| element(step, group)));
        }
        inversion.invert();
        for step in (0..20).rev() {
            for (group, inverse) in inversion.pop().iter().enumerate() {
                let product = inverse.times(&element(step, group)).canonical().0[0].store();
                let expected = |lane| u64::from(number(step, group, lane) != 0);
                assert_eq!(product, std::array::from_fn(expected), "{step} {group}");
            }
        }
        let mut exceptional = [0; GROUPS];
        (exceptional[5], exceptional[6]) = (1 << 0, 1 << 3);
        assert_eq!(inversion.exceptional, exceptional);
    }
}
