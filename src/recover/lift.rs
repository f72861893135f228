//! The point R, from its x coordinate and the parity of y.
//!
//! Source: SEC 1 version 2, section 2.3.4: p is 3 modulo 4, so a^((p + 1) / 4) is a square root of
//! a if there is one. The chain of 253 squarings and 13 multiplications is libsecp256k1's,
//! `src/field_impl.h`, `secp256k1_fe_sqrt`.

use super::field::{Element, finish};
use super::group::{Group, Work};
use super::lanes::{Lanes, Stage, four};
use super::limbs;
use super::point::Affine;
use super::{QUAD, generator};

/// Lifts R of all signatures. Where there is no such point, the signature is invalid and G stands
/// in.
pub(super) struct Lift;

impl<L: Lanes> Stage<Work<L>> for Lift {
    #[inline(always)]
    fn run(work: &mut Work<L>) {
        for quad in work.groups[..work.groups_len].as_chunks_mut::<QUAD>().0 {
            let squares = four!(k => {
                let x = Element(quad[k].r);
                let mut square = x.squared().times_open(&x);
                square[0] = square[0] + L::splat(7);
                finish(square)
            });
            let roots = square_roots(&squares);
            for k in 0..QUAD {
                choose(&mut quad[k], &squares[k], &roots[k]);
            }
        }
    }
}

/// Picks the root with the right parity.
#[inline(always)]
fn choose<L: Lanes>(group: &mut Group<L>, square: &Element<L>, root: &Element<L>) {
    let on_curve = root.squared().minus(square).zero();
    let root = root.canonical();
    let even = (root.0[0] & L::splat(1)).zero();
    let y = limbs::choose(even ^ group.y_parity, &root.0, &root.negated().0);
    let (gx, gy) = (Element::splat(&generator::X), Element::splat(&generator::Y));
    let point = Affine {
        x: Element(limbs::choose(on_curve, &group.r, &gx.0)),
        y: Element(limbs::choose(on_curve, &y, &gy.0)),
    };
    group.multiples[1] = point;
    group.tabulate(1, &point);
    group.valid &= on_curve;
}

#[inline(always)]
fn square_roots<L: Lanes>(a: &[Element<L>; QUAD]) -> [Element<L>; QUAD] {
    // xN is a^(2^N - 1).
    let x2 = raise(a, 1, a);
    let x3 = raise(&x2, 1, a);
    let x6 = raise(&x3, 3, &x3);
    let x9 = raise(&x6, 3, &x3);
    let x11 = raise(&x9, 2, &x2);
    let x22 = raise(&x11, 11, &x11);
    let x44 = raise(&x22, 22, &x22);
    let x88 = raise(&x44, 44, &x44);
    let x176 = raise(&x88, 88, &x88);
    let x220 = raise(&x176, 44, &x44);
    let x223 = raise(&x220, 3, &x3);
    let most = raise(&x223, 23, &x22);
    let mut roots = raise(&most, 6, &x2);
    square_often(&mut roots, 2);
    roots
}

/// `from^(2^squarings) * by`.
#[inline(always)]
fn raise<L: Lanes>(
    from: &[Element<L>; QUAD],
    squarings: usize,
    by: &[Element<L>; QUAD],
) -> [Element<L>; QUAD] {
    let mut raised = four!(k => from[k].squared());
    square_often(&mut raised, squarings - 1);
    four!(k => raised[k].times(&by[k]))
}

#[inline(always)]
fn square_often<L: Lanes>(elements: &mut [Element<L>; QUAD], squarings: usize) {
    for _ in 0..squarings {
        for element in elements.iter_mut() {
            *element = element.squared();
        }
    }
}
