//! Points of the curve y² = x³ + 7 and their addition, eight at a time.
//!
//! Affine addition is used where many points are added at once and share one inversion: 2
//! multiplications and a squaring, plus 3 multiplications for the shared inversion. Consecutive
//! doublings use Jacobian coordinates (x = X/Z², y = Y/Z³) and return the negative of the result,
//! which saves negating; two of them return the result itself.
//!
//! Several independent operations are interleaved, line by line: a single one would wait for its
//! own results, because the processor looks only about four multiplications ahead.
//!
//! Source: the chord and tangent formulas as in Hankerson, Menezes, Vanstone, "Guide to Elliptic
//! Curve Cryptography", sections 3.1.2 and 3.2; Cohen, Miyaji, Ono, "Efficient Elliptic Curve
//! Exponentiation Using Mixed Coordinates" (1998), for the Jacobian ones.

use super::QUAD;
use super::field::{Element, finish, minus, plus};
use super::lanes::{Lanes, four};
use super::limbs::{self, carry, product, square};

/// A point other than infinity. The limbs of y are below 2^53 instead of 2^52 if it was negated
/// without carrying.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine<L> {
    /// Tight.
    pub(super) x: Element<L>,
    /// See above.
    pub(super) y: Element<L>,
}

/// A point, or infinity where z is zero. All three are tight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jacobian<L> {
    /// z² times the affine x.
    pub(super) x: Element<L>,
    /// z³ times the affine y.
    pub(super) y: Element<L>,
    /// Zero only for infinity.
    pub(super) z: Element<L>,
}

impl<L: Lanes> Affine<L> {
    /// See [`Element::put`].
    #[inline(always)]
    pub(super) fn put(&self, to: &mut Self) {
        self.x.put(&mut to.x);
        self.y.put(&mut to.y);
    }

    /// The same point, with z = 1.
    #[inline(always)]
    pub(super) fn jacobian(&self) -> Jacobian<L> {
        Jacobian { x: self.x, y: self.y, z: Element::one() }
    }
}

/// `a += b`, given the inverses of `b.x - a.x`.
///
/// λ = (b.y - a.y) / (b.x - a.x); x = λ² - a.x - b.x; y = λ (a.x - x) - a.y.
#[inline(always)]
pub(super) fn add<L: Lanes>(
    a: [&mut Affine<L>; QUAD],
    b: [&Affine<L>; QUAD],
    inverses: &[Element<L>; QUAD],
) {
    let slopes = four!(k => {
        let rise = minus::<4, 1, L>(b[k].y.0, &a[k].y.0);
        Element(carry(rise)).times(&inverses[k])
    });
    chord(a, b, &slopes);
}

/// `a -= b`, given the inverses of `b.x - a.x`: adds b with its y negated.
#[inline(always)]
pub(super) fn subtract<L: Lanes>(
    a: [&mut Affine<L>; QUAD],
    b: [&Affine<L>; QUAD],
    inverses: &[Element<L>; QUAD],
) {
    let slopes = four!(k => {
        let rise = minus::<4, 1, L>([L::splat(0); 5], &a[k].y.0);
        Element(carry(minus::<4, 1, L>(rise, &b[k].y.0))).times(&inverses[k])
    });
    chord(a, b, &slopes);
}

/// The sums, given the slopes.
#[inline(always)]
fn chord<L: Lanes>(a: [&mut Affine<L>; QUAD], b: [&Affine<L>; QUAD], slopes: &[Element<L>; QUAD]) {
    let x = four!(k => {
        let square = minus::<2, 1, L>(slopes[k].squared_open(), &a[k].x.0);
        finish(minus::<2, 1, L>(square, &b[k].x.0))
    });
    for k in 0..QUAD {
        let y = slopes[k].times_open(&a[k].x.minus(&x[k]));
        a[k].y = finish(minus::<4, 1, L>(y, &a[k].y.0));
        x[k].put(&mut a[k].x);
    }
}

/// `a = 2 a`, given the inverses of `2 a.y`. The y of a must be tight.
///
/// λ = 3 a.x² / 2 a.y; x = λ² - 2 a.x; y = λ (a.x - x) - a.y.
#[inline(always)]
pub(super) fn double<L: Lanes>(a: [&mut Affine<L>; QUAD], inverses: &[Element<L>; QUAD]) {
    let rises = four!(k => {
        let xx = a[k].x.squared_open();
        finish(plus(plus(xx, &xx), &xx))
    });
    let slopes = four!(k => rises[k].times(&inverses[k]));
    let x = four!(k => finish(minus::<4, 2, L>(slopes[k].squared_open(), &a[k].x.0)));
    for k in 0..QUAD {
        let y = slopes[k].times_open(&a[k].x.minus(&x[k]));
        a[k].y = finish(minus::<2, 1, L>(y, &a[k].y.0));
        x[k].put(&mut a[k].x);
    }
}

/// `points = -2 points`.
///
/// E = 3 X², B = Y², T = X B; X' = E² - 8 T; Y' = E (X' - 4 T) + 8 B²; Z' = 2 Y Z.
#[inline(always)]
pub(super) fn double_negated<const N: usize, L: Lanes>(points: &mut [Jacobian<L>; N]) {
    let zero = points[0].x;
    let (mut e, mut b, mut t, mut x, mut z) =
        ([zero; N], [zero; N], [zero; N], [zero; N], [zero; N]);
    for k in 0..N {
        let xx = points[k].x.squared_open();
        e[k] = finish(plus(plus(xx, &xx), &xx));
    }
    for k in 0..N {
        b[k] = points[k].y.squared();
    }
    // Half of these before T and half after, so that there is always an operation ready to run.
    for k in 0..N / 2 {
        z[k] = doubled_product(&points[k].y, &points[k].z);
    }
    for k in 0..N {
        t[k] = points[k].x.times(&b[k]);
    }
    for k in N / 2..N {
        z[k] = doubled_product(&points[k].y, &points[k].z);
    }
    for k in 0..N {
        x[k] = finish(minus::<16, 8, L>(e[k].squared_open(), &t[k].0));
    }
    for k in 0..N {
        let mut bb8 = square(&b[k].0);
        for column in &mut bb8 {
            *column = *column << 3;
        }
        let u = Element(carry(minus::<8, 4, L>(x[k].0, &t[k].0)));
        points[k] = Jacobian { x: x[k], y: e[k].times_plus(&u, bb8), z: z[k] };
    }
}

#[inline(always)]
fn doubled_product<L: Lanes>(a: &Element<L>, b: &Element<L>) -> Element<L> {
    let ab = a.times_open(b);
    finish(plus(ab, &ab))
}

/// `points = -(points + others)`. If the two are equal or opposite, z becomes zero; if z is zero,
/// it stays zero.
///
/// H = x₂ Z² - X, R = y₂ Z³ - Y, V = X H²; X' = R² - H³ - 2 V; Y' = R (X' - V) + Y H³; Z' = Z H.
#[inline(always)]
pub(super) fn add_negated<const N: usize, L: Lanes>(
    points: &mut [Jacobian<L>; N],
    others: [&Affine<L>; N],
) {
    let zero = points[0].x;
    let (mut zz, mut zzz, mut h, mut r) = ([zero; N], [zero; N], [zero; N], [zero; N]);
    let (mut hh, mut hhh, mut v, mut x) = ([zero; N], [zero; N], [zero; N], [zero; N]);
    for k in 0..N {
        zz[k] = points[k].z.squared();
    }
    for k in 0..N {
        h[k] = finish(minus::<2, 1, L>(others[k].x.times_open(&zz[k]), &points[k].x.0));
    }
    for k in 0..N {
        zzz[k] = points[k].z.times(&zz[k]);
    }
    for k in 0..N {
        hh[k] = h[k].squared();
    }
    for k in 0..N {
        r[k] = finish(minus::<2, 1, L>(others[k].y.times_open(&zzz[k]), &points[k].y.0));
    }
    for k in 0..N {
        v[k] = points[k].x.times(&hh[k]);
    }
    for k in 0..N {
        hhh[k] = h[k].times(&hh[k]);
    }
    for k in 0..N {
        points[k].z = points[k].z.times(&h[k]);
    }
    for k in 0..N {
        let difference = minus::<2, 1, L>(r[k].squared_open(), &hhh[k].0);
        x[k] = finish(minus::<4, 2, L>(difference, &v[k].0));
    }
    for k in 0..N {
        let columns = product(&points[k].y.0, &hhh[k].0);
        points[k].y = r[k].times_plus(&x[k].minus(&v[k]), columns);
        points[k].x = x[k];
    }
}

/// Negates y in the lanes of the mask, without carrying.
#[inline(always)]
pub(super) fn negate_where<L: Lanes>(mask: u8, y: &limbs::Limbs<L>) -> limbs::Limbs<L> {
    limbs::choose(mask, &minus::<2, 1, L>([L::splat(0); 5], y), y)
}
