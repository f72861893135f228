//! A block's identity and its link to its parent.

use alloy_primitives::B256;

/// A block's identity and its link to its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLink {
    /// Height.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// The parent's hash.
    pub parent_hash: B256,
    /// Seconds since 1970.
    pub timestamp: u64,
}
