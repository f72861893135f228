//! Six rounds, each with one inversion for the whole chunk, compute the odd multiples of R up to 31
//! and add G's entries pairwise until one is left.

use super::QUAD;
use super::field::{Element, plus};
use super::generator::{Generator, WINDOWS};
use super::group::{Group, Work};
use super::lanes::{LANES, Lanes, Stage, four};
use super::limbs::carry;
use super::packed::{Packed, gather, gather_x};
use super::point::{self, Affine};
use Operation::{Add, Both, Double};

/// Computes multiples of R from others, all given by number.
#[derive(Clone, Copy)]
enum Operation {
    /// 2 a.
    Double(usize),
    /// a + b.
    Add(usize, usize),
    /// a - b and a + b, which need the same inverse.
    Both(usize, usize),
}

/// The odd multiples, and those needed to reach them.
const ROUNDS: [&[Operation]; 6] = [
    &[Double(1)],
    &[Double(2)],
    &[Double(4), Both(4, 1)],
    &[Double(8), Both(8, 1)],
    &[Both(16, 1), Both(16, 3), Both(16, 5), Add(16, 7), Add(16, 9)],
    &[Add(16, 11), Add(16, 13), Add(16, 15)],
];

/// All rounds.
pub(super) fn sum<L: Lanes>(work: &mut Work<L>) {
    for (number, operations) in ROUNDS.iter().enumerate() {
        let mut round = Round { work, operations, leaves: WINDOWS >> number };
        if number == 0 {
            L::call::<Sums<true>, _>(&mut round);
        } else {
            L::call::<Sums<false>, _>(&mut round);
        }
    }
}

struct Round<'a, L> {
    work: &'a mut Work<L>,
    operations: &'a [Operation],
    /// How many of G's entries, or sums of them, are left.
    leaves: usize,
}

/// One round. In the first, G's entries come from the fixed tables.
struct Sums<const FIRST: bool>;

impl<L: Lanes, const FIRST: bool> Stage<Round<'_, L>> for Sums<FIRST> {
    #[inline(always)]
    fn run(round: &mut Round<'_, L>) {
        let Work { groups, groups_len, inversion, generator } = &mut *round.work;
        let quads = groups[..*groups_len].as_chunks_mut::<QUAD>().0;
        let half = round.leaves / 2;

        inversion.clear();
        for operation in round.operations {
            for (at, quad) in quads.iter().enumerate() {
                let denominators = four!(k => denominator(operation, &quad[k]));
                inversion.push(numbers(at), &denominators);
            }
        }
        for leaf in 0..half {
            for (at, quad) in quads.iter().enumerate() {
                let denominators = four!(k => if FIRST {
                    let x = gather_x(entries(generator, &quad[k], leaf));
                    gather_x(entries(generator, &quad[k], leaf + half)).minus(&x)
                } else {
                    quad[k].leaves[leaf + half].x.minus(&quad[k].leaves[leaf].x)
                });
                inversion.push(numbers(at), &denominators);
            }
        }
        inversion.invert();
        for leaf in (0..half).rev() {
            for quad in quads.iter_mut().rev() {
                let inverses = inversion.pop();
                if FIRST {
                    add_entries(generator, quad, leaf, &inverses);
                } else {
                    add_leaves(quad, leaf, leaf + half, &inverses);
                }
            }
        }
        for operation in round.operations.iter().rev() {
            for quad in quads.iter_mut().rev() {
                operate(operation, quad, &inversion.pop());
            }
        }
    }
}

/// The indices of a quad's groups.
#[inline(always)]
fn numbers(quad: usize) -> [usize; QUAD] {
    let first = QUAD * quad;
    [first, first + 1, first + 2, first + 3]
}

#[inline(always)]
fn denominator<L: Lanes>(operation: &Operation, group: &Group<L>) -> Element<L> {
    let multiples = &group.multiples;
    match *operation {
        Double(a) => {
            let y = &multiples[a].y.0;
            Element(carry(plus(*y, y)))
        }
        Add(a, b) | Both(a, b) => multiples[b].x.minus(&multiples[a].x),
    }
}

#[inline(always)]
fn operate<L: Lanes>(
    operation: &Operation,
    quad: &mut [Group<L>; QUAD],
    inverses: &[Element<L>; QUAD],
) {
    match *operation {
        Double(a) => {
            let mut doubles = copied(multiples(quad, a));
            point::double(doubles.each_mut(), inverses);
            keep(quad, 2 * a, &doubles);
        }
        Add(a, b) => {
            let mut sums = copied(multiples(quad, a));
            point::add(sums.each_mut(), multiples(quad, b), inverses);
            keep(quad, a + b, &sums);
        }
        Both(a, b) => {
            let mut sums = copied(multiples(quad, a));
            let mut differences = copied(multiples(quad, a));
            point::add(sums.each_mut(), multiples(quad, b), inverses);
            point::subtract(differences.each_mut(), multiples(quad, b), inverses);
            keep(quad, a - b, &differences);
            keep(quad, a + b, &sums);
        }
    }
}

#[inline(always)]
fn multiples<L: Lanes>(quad: &[Group<L>; QUAD], number: usize) -> [&Affine<L>; QUAD] {
    let [g0, g1, g2, g3] = quad;
    [&g0.multiples[number], &g1.multiples[number], &g2.multiples[number], &g3.multiples[number]]
}

#[inline(always)]
fn copied<L: Lanes>(points: [&Affine<L>; QUAD]) -> [Affine<L>; QUAD] {
    four!(k => {
        let Affine { x: Element([a, b, c, d, e]), y: Element([f, g, h, i, j]) } = *points[k];
        Affine { x: Element([a, b, c, d, e]), y: Element([f, g, h, i, j]) }
    })
}

/// Stores a multiple where later rounds read it, and in the tables if it is odd.
#[inline(always)]
fn keep<L: Lanes>(quad: &mut [Group<L>; QUAD], number: usize, points: &[Affine<L>; QUAD]) {
    for k in 0..QUAD {
        if let Some(multiple) = quad[k].multiples.get_mut(number) {
            points[k].put(multiple);
        }
        if number % 2 == 1 {
            quad[k].tabulate(number, &points[k]);
        }
    }
}

#[inline(always)]
fn entries<'a, L: Lanes>(
    generator: &'a Generator,
    group: &Group<L>,
    window: usize,
) -> [&'a Packed; LANES] {
    generator.entries(window, &group.g_digits[window])
}

/// Adds the entries of two windows.
#[inline(always)]
fn add_entries<L: Lanes>(
    generator: &Generator,
    quad: &mut [Group<L>; QUAD],
    leaf: usize,
    inverses: &[Element<L>; QUAD],
) {
    let other = leaf + WINDOWS / 2;
    for group in quad.iter_mut() {
        group.leaves[leaf] = entry(generator, group, leaf);
    }
    let [g0, g1, g2, g3] = quad;
    let groups = [&*g0, &*g1, &*g2, &*g3];
    let others = four!(k => entry(generator, groups[k], other));
    let leaves =
        [&mut g0.leaves[leaf], &mut g1.leaves[leaf], &mut g2.leaves[leaf], &mut g3.leaves[leaf]];
    point::add(leaves, others.each_ref(), inverses);
}

#[inline(always)]
fn entry<L: Lanes>(generator: &Generator, group: &Group<L>, window: usize) -> Affine<L> {
    gather(entries(generator, group, window), group.g_digits[window].negative)
}

/// Adds the leaf `other` to `leaf`, which comes before it.
#[inline(always)]
fn add_leaves<L: Lanes>(
    quad: &mut [Group<L>; QUAD],
    leaf: usize,
    other: usize,
    inverses: &[Element<L>; QUAD],
) {
    let [(a0, b0), (a1, b1), (a2, b2), (a3, b3)] = quad.each_mut().map(|group| {
        let (leaves, others) = group.leaves.split_at_mut(other);
        (&mut leaves[leaf], &others[0])
    });
    point::add([a0, a1, a2, a3], [b0, b1, b2, b3], inverses);
}
