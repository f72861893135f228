//! Blooms of logs.

use super::Log;
use crate::keccak::keccak256_each;
use alloy_primitives::map::HashMap;
use alloy_primitives::{Bloom, BloomInput};

/// The bloom of each receipt's logs. A block repeats few addresses and topics many times, so each
/// is hashed once, and all of them together.
pub(crate) fn blooms<'a>(receipts: impl Iterator<Item = &'a [Log]> + Clone) -> Vec<Bloom> {
    let mut known = HashMap::<&[u8], usize>::default();
    let mut inputs = Vec::new();
    let mut used = Vec::new();
    for input in receipts.clone().flatten().flat_map(inputs_of) {
        used.push(*known.entry(input).or_insert_with(|| {
            inputs.push(input);
            inputs.len() - 1
        }));
    }
    let hashes = keccak256_each(&inputs);
    let mut used = used.into_iter();
    let bloom = |logs: &[Log]| {
        let mut bloom = Bloom::ZERO;
        for index in used.by_ref().take(logs.iter().map(|log| 1 + log.topics.len()).sum()) {
            bloom.accrue(BloomInput::Hash(hashes[index]));
        }
        bloom
    };
    receipts.map(bloom).collect()
}

/// What of a log is in the bloom.
fn inputs_of(log: &Log) -> impl Iterator<Item = &[u8]> {
    std::iter::once(log.address.as_slice()).chain(log.topics.iter().map(|topic| topic.as_slice()))
}
