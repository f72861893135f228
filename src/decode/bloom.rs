//! Blooms of logs.

use super::Log;
use alloy_primitives::{Bloom, BloomInput, keccak256};
use std::collections::HashMap;

/// The bits of the addresses and topics of one block's logs. A block repeats few of them many
/// times, so each is hashed once.
#[derive(Debug, Default)]
pub(crate) struct BloomBits<'a> {
    bits: HashMap<&'a [u8], Bloom>,
}

impl<'a> BloomBits<'a> {
    /// The bloom of a receipt's logs.
    pub(crate) fn of(&mut self, logs: &'a [Log]) -> Bloom {
        let mut bloom = Bloom::ZERO;
        for log in logs {
            let topics = log.topics.iter().map(|topic| topic.as_slice());
            for input in std::iter::once(log.address.as_slice()).chain(topics) {
                bloom |= *self
                    .bits
                    .entry(input)
                    .or_insert_with(|| Bloom::from(BloomInput::Hash(keccak256(input))));
            }
        }
        bloom
    }
}
