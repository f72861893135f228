//! Why batches are trusted: before the first one, a fixed chunk must give the same result as
//! libsecp256k1 once did, and a share of each batch is also recovered by libsecp256k1. The author
//! of a transaction cannot predict which share. After one difference, this process never uses
//! batches again.

use super::Signer;
use crate::decode::Signature;
use alloy_primitives::{Address, B256, U256, b256, keccak256};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// One signature in this many is recovered twice.
const SHARE: usize = 64;

/// Number of signatures in the self-test.
const SELF_TEST: usize = 128;

/// keccak-256 of the addresses that libsecp256k1 recovers for [`self_test`], concatenated, with
/// zeros where there is none. One digest is as good as 128 addresses, and a constant is better than
/// asking libsecp256k1 at each start, which would take ten times as long as the test.
const SELF_TEST_ANSWER: B256 =
    b256!("7af8f926925f5919d8f4c725243dbf803de412663d1b90a3e5599291ab7f4af5");

/// Counts the batches found wrong.
#[derive(Debug, Default)]
pub(super) struct Trust {
    differences: AtomicU64,
}

impl Trust {
    /// With no difference found yet.
    pub(super) const fn new() -> Self {
        Self { differences: AtomicU64::new(0) }
    }

    /// How many differences have been found.
    pub(super) fn differences(&self) -> u64 {
        self.differences.load(Ordering::Relaxed)
    }

    /// Whether none has been found.
    pub(super) fn is_whole(&self) -> bool {
        self.differences() == 0
    }

    /// Runs the self-test on a batch backend.
    pub(super) fn test(&self, batch: impl Fn(&[Signature]) -> Vec<Signer>) {
        let answer = digest(&batch(&self_test()));
        if answer != SELF_TEST_ANSWER {
            self.differences.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                expected = %SELF_TEST_ANSWER,
                found = %answer,
                "recovering senders in batches fails its self-test on this machine: libsecp256k1 \
                 recovers all of them, which is right and slower; please report this"
            );
        }
    }

    /// Recovers a chunk as a batch, and a share of it also with libsecp256k1. If the two differ,
    /// all of it is recovered with libsecp256k1.
    pub(super) fn recover(
        &self,
        chunk: &[Signature],
        batch: impl Fn(&[Signature]) -> Vec<Signer>,
    ) -> Vec<Signer> {
        let signers = batch(chunk);
        for at in sample(chunk.len()) {
            let (signature, found) = (&chunk[at], &signers[at]);
            let expected = signature.signer();
            if expected != *found {
                self.differences.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    ?signature,
                    ?expected,
                    ?found,
                    "a sender recovered in a batch is not what libsecp256k1 recovers: from here \
                     on it recovers all of them, which is right and slower; blocks that are \
                     stored already are checked by `spyhop verify --deep`; please report this"
                );
                return chunk.iter().map(Signature::signer).collect();
            }
        }
        signers
    }
}

/// Indices into a chunk, each with a probability of one in [`SHARE`].
fn sample(len: usize) -> impl Iterator<Item = usize> {
    // Keyed by the operating system's random numbers, differently on each call.
    let random = RandomState::new();
    (0..len)
        .step_by(SHARE)
        .map(move |first| first + random.hash_one(first) as usize % SHARE)
        .filter(move |at| *at < len)
}

/// Fixed signatures. About half of them are invalid, because their r is not the x of a point.
fn self_test() -> Vec<Signature> {
    let number = |index: usize, what: u8| keccak256([index as u8, what]);
    (0..SELF_TEST)
        .map(|index| Signature {
            hash: number(index, 0),
            r: U256::from_be_bytes(number(index, 1).0),
            s: U256::from_be_bytes(number(index, 2).0),
            y_parity: index % 3 == 0,
        })
        .collect()
}

fn digest(signers: &[Signer]) -> B256 {
    let address = |signer: &Signer| signer.unwrap_or(Address::ZERO).0.0;
    keccak256(signers.iter().map(address).collect::<Vec<_>>().as_flattened())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn by_libsecp256k1(chunk: &[Signature]) -> Vec<Signer> {
        chunk.iter().map(Signature::signer).collect()
    }

    /// Recovers with an error at one index.
    fn wrong_at(wrong: usize) -> impl Fn(&[Signature]) -> Vec<Signer> {
        move |chunk| {
            let mut signers = by_libsecp256k1(chunk);
            signers[wrong] = Ok(Address::ZERO);
            signers
        }
    }

    #[test]
    fn self_test_expects_what_libsecp256k1_gives() {
        let signers = by_libsecp256k1(&self_test());
        assert_eq!(digest(&signers), SELF_TEST_ANSWER);
        let valid = signers.iter().filter(|signer| signer.is_ok()).count();
        assert!((40..=88).contains(&valid), "{valid} of {SELF_TEST} are valid");
    }

    #[test]
    fn one_wrong_signer_fails_the_self_test() {
        for wrong in 0..SELF_TEST {
            let trust = Trust::new();
            trust.test(|chunk| {
                let mut signers = by_libsecp256k1(chunk);
                signers[wrong] = Ok(Address::repeat_byte(1));
                signers
            });
            assert!(!trust.is_whole());
        }
    }

    #[test]
    fn a_difference_is_found_sooner_or_later_and_the_chunk_is_recovered_again() {
        let chunk = self_test();
        let expected = by_libsecp256k1(&chunk);
        let wrong = expected.iter().position(Result::is_ok).unwrap();
        let trust = Trust::new();
        let found = (0..10_000)
            .find(|_| trust.recover(&chunk, wrong_at(wrong)) == expected)
            .expect("the chance of missing it this often is (63/64)^10,000");
        assert_eq!(trust.differences(), 1, "at try {found}");
    }

    #[test]
    fn each_place_of_a_chunk_is_as_likely_to_be_checked() {
        for len in [1, 8, 63, 64, 65, 128] {
            let mut counts = vec![0; len];
            for _ in 0..64_000 {
                sample(len).for_each(|at| counts[at] += 1);
            }
            // 1,000 are expected, with a standard deviation of 31.
            assert!(counts.iter().all(|count| (750..1_250).contains(count)), "{len}: {counts:?}");
        }
    }
}
