//! Batch inversion (Montgomery's trick): the denominators are multiplied together, the product is
//! inverted, and a backward pass extracts each inverse, at three multiplications per denominator.
//!
//! A zero denominator would spoil every other inverse. It means that two points to be added are
//! equal or opposite, which happens only in crafted signatures. Such a signature is flagged in
//! [`Inversion::exceptional`], and its denominator is replaced by one.
//!
//! Source: Montgomery, "Speeding the Pollard and Elliptic Curve Methods of Factorization" (1987),
//! section 10.3.1.

use super::field::{Element, P};
use super::lanes::{LANES, Lanes, Mask, Stage, four};
use super::limbs::{self, rotate};
use super::{GROUPS, QUAD};
use alloy_primitives::U256;

/// Four denominators, and the group of each.
struct Step<L> {
    denominators: [Element<L>; QUAD],
    /// The product of all earlier denominators.
    before: [Element<L>; QUAD],
    groups: [usize; QUAD],
}

/// Denominators: pushed first, then popped as inverses in reverse order.
pub(super) struct Inversion<L> {
    steps: Vec<Step<L>>,
    /// Steps pushed and not yet popped.
    len: usize,
    /// While pushing, the product of all denominators; while popping, the inverse of the product of
    /// those not yet popped.
    running: [Element<L>; QUAD],
    /// For each group, the lanes in which a denominator was zero.
    pub(super) exceptional: [Mask; GROUPS],
}

impl<L: Lanes> Inversion<L> {
    /// Allocates this many steps.
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

    /// Starts a new batch.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.running = [Element::one(); QUAD];
    }

    /// Adds four denominators, and the group of each.
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

    /// Inverts everything pushed.
    #[inline(always)]
    pub(super) fn invert(&mut self) {
        L::call::<Invert, _>(self);
    }

    /// The inverses of the last step not yet popped.
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

/// Each lane's inverse, with a single inversion for all; no lane may be zero. Three steps multiply
/// all lanes, and the inverse of that product times the other lanes is the lane's inverse.
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

/// Replaces zero denominators by one, and flags their lanes.
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
