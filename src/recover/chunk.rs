//! Runs a chunk of signatures through all stages.

use super::addresses::Addresses;
use super::group::Work;
use super::ladder::Ladder;
use super::lanes::{LANES, Lanes};
use super::lift::Lift;
use super::limbs::limbs;
use super::pairs::Pairs;
use super::scalar::N;
use super::scalars::Scalars;
use super::sums::sum;
use super::{CHUNK, QUAD};
use crate::decode::Signature;
use alloy_primitives::{Address, U256};

/// Stands in for an invalid or missing signature.
const DUMMY: [U256; 3] = [super::generator::X, U256::from_limbs([2, 0, 0, 0]), U256::ONE];

impl<L: Lanes> Work<L> {
    /// Recovers the signers of up to [`CHUNK`] signatures. `None` leaves a signature to
    /// libsecp256k1: it is invalid or leads to an exceptional addition.
    pub(super) fn recover(&mut self, signatures: &[Signature], signers: &mut [Option<Address>]) {
        assert!(signatures.len() <= CHUNK && signatures.len() == signers.len());
        if signatures.is_empty() {
            return;
        }
        self.fill(signatures);
        L::call::<Scalars, _>(self);
        L::call::<Lift, _>(self);
        sum(self);
        L::call::<Pairs, _>(self);
        L::call::<Ladder, _>(self);
        L::call::<Addresses, _>(self);
        for (at, signer) in signers.iter_mut().enumerate() {
            let (number, lane) = (at / LANES, at % LANES);
            let group = &self.groups[number];
            let good = group.valid & !self.inversion.exceptional[number];
            *signer = (good >> lane & 1 == 1).then(|| group.addresses[lane]);
        }
    }

    /// Loads one signature per lane, and pads the groups to a multiple of [`QUAD`].
    pub(super) fn fill(&mut self, signatures: &[Signature]) {
        self.groups_len = signatures.len().div_ceil(LANES).next_multiple_of(QUAD);
        self.inversion.exceptional.fill(0);
        for (number, group) in self.groups[..self.groups_len].iter_mut().enumerate() {
            let mut lanes = [[[0; LANES]; 5]; 3];
            (group.valid, group.y_parity) = (0, 0);
            for lane in 0..LANES {
                let mut numbers = DUMMY;
                if let Some(signature) = signatures.get(LANES * number + lane)
                    && in_range(&signature.r)
                    && in_range(&signature.s)
                {
                    numbers = [signature.r, signature.s, signature.hash.into()];
                    group.valid |= 1 << lane;
                    group.y_parity |= u8::from(signature.y_parity) << lane;
                }
                for (lanes, number) in lanes.iter_mut().zip(numbers) {
                    for (lanes, limb) in lanes.iter_mut().zip(limbs(&number)) {
                        lanes[lane] = limb;
                    }
                }
            }
            [group.r, group.s, group.hash] = lanes.map(|limbs| limbs.map(|lanes| L::load(&lanes)));
        }
    }
}

/// Whether a number is in [1, n - 1] (SEC 1 version 2, section 4.1.6).
fn in_range(number: &U256) -> bool {
    !number.is_zero() && *number < N
}
