//! Keccak-256 of many messages at once.
//!
//! Proving a block takes thousands of hashes: of transactions, trie nodes, addresses and topics.
//! Where the processor has AVX-512, eight messages are hashed side by side, each in a lane of the
//! registers; elsewhere, and for one or two messages, alloy hashes them one by one. The digests are
//! the same.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod permutation;

use alloy_primitives::{B256, keccak256};

pub(crate) use permutation::{Word, permute};

/// Bytes of a message absorbed by each permutation.
pub(crate) const RATE: usize = 136;

/// Hashes each message.
pub(crate) fn keccak256_each(messages: &[&[u8]]) -> Vec<B256> {
    #[cfg(target_arch = "x86_64")]
    if avx512::is_available() {
        return in_eights(messages);
    }
    messages.iter().map(keccak256).collect()
}

/// Hashes messages of about the same length together, because eight take as long as the longest.
#[cfg(target_arch = "x86_64")]
fn in_eights(messages: &[&[u8]]) -> Vec<B256> {
    /// This few messages are about as fast one by one.
    const FEW: usize = 2;

    let mut order: Vec<_> = (0..messages.len()).collect();
    order.sort_unstable_by_key(|&index| messages[index].len() / RATE);
    let mut digests = vec![B256::ZERO; messages.len()];
    for eight in order.chunks(avx512::LANES) {
        if eight.len() <= FEW {
            for &index in eight {
                digests[index] = keccak256(messages[index]);
            }
            continue;
        }
        let mut lanes = [&[][..]; avx512::LANES];
        for (lane, &index) in lanes.iter_mut().zip(eight) {
            *lane = messages[index];
        }
        for (&index, digest) in eight.iter().zip(avx512::keccak256(&lanes)) {
            digests[index] = digest;
        }
    }
    digests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_alloy() {
        // Every length around a multiple of the rate, in no order, and every remainder modulo
        // eight.
        let bytes: Vec<_> = (0..10 * RATE).map(|index| (index * 167 % 251) as u8).collect();
        for count in (0..40).chain([1_000]) {
            let messages: Vec<_> =
                (0..count).map(|index| &bytes[index % 7..][..index * 383 % (8 * RATE)]).collect();
            let expected: Vec<_> = messages.iter().map(keccak256).collect();
            assert_eq!(keccak256_each(&messages), expected, "{count} messages");
        }
        for length in 0..5 * RATE {
            let messages = [&bytes[..length]; 9];
            assert_eq!(keccak256_each(&messages), [keccak256(messages[0]); 9], "{length} bytes");
        }
    }
}
