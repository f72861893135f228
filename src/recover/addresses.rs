//! Turns keys into addresses: the last 20 bytes of the hash of x and y (yellow paper, appendix F).

use super::QUAD;
use super::field::Element;
use super::group::{Group, Work};
use super::lanes::{LANES, Lanes, Stage};
use super::limbs::pack;
use crate::keccak::{RATE, permute};

/// The addresses of all signers.
pub(super) struct Addresses;

impl<L: Lanes> Stage<Work<L>> for Addresses {
    #[inline(always)]
    fn run(work: &mut Work<L>) {
        let Work { groups, groups_len, inversion, .. } = work;
        let quads = groups[..*groups_len].as_chunks_mut::<QUAD>().0;
        inversion.clear();
        for (at, quad) in quads.iter().enumerate() {
            let z = [quad[0].key.z, quad[1].key.z, quad[2].key.z, quad[3].key.z];
            inversion.push([QUAD * at, QUAD * at + 1, QUAD * at + 2, QUAD * at + 3], &z);
        }
        inversion.invert();
        for quad in quads.iter_mut().rev() {
            let inverses = inversion.pop();
            for k in 0..QUAD {
                hash(&mut quad[k], &inverses[k]);
            }
        }
    }
}

/// Makes the key affine with the inverse of z, and hashes its big-endian coordinates. The ladder
/// left the key negated.
#[inline(always)]
fn hash<L: Lanes>(group: &mut Group<L>, inverse: &Element<L>) {
    let square = inverse.squared();
    let x = group.key.x.times(&square).canonical();
    let y = group.key.y.times(&square.times(inverse)).negated().canonical();
    let mut state = [L::splat(0); 25];
    let words = [pack(&y.0), pack(&x.0)];
    for (word, number) in state[..LANES].iter_mut().rev().zip(words.as_flattened()) {
        *word = number.swap_bytes();
    }
    // Keccak's padding.
    state[LANES] = L::splat(0x01);
    state[RATE / 8 - 1] = L::splat(0x80 << 56);
    permute(&mut state);
    let words = [state[1].store(), state[2].store(), state[3].store()];
    for (lane, address) in group.addresses.iter_mut().enumerate() {
        address[..4].copy_from_slice(&words[0][lane].to_le_bytes()[4..]);
        address[4..12].copy_from_slice(&words[1][lane].to_le_bytes());
        address[12..].copy_from_slice(&words[2][lane].to_le_bytes());
    }
}
