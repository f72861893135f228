//! The id of the node's chain.

use alloy_primitives::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// An EIP-155 chain id. That EIP has no limit; the EVM's own is 256 bits (EIP-1344). In JSON a
/// number, or decimal text if it exceeds 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainId(pub U256);

impl ChainId {
    /// The id as a `u64`, if it fits.
    pub(crate) fn small(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }
}

impl From<u64> for ChainId {
    fn from(id: u64) -> Self {
        Self(U256::from(id))
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ChainId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.small() {
            Some(id) => serializer.serialize_u64(id),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for ChainId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Encoded {
            Number(u64),
            Text(String),
        }
        match Encoded::deserialize(deserializer)? {
            Encoded::Number(id) => Ok(Self::from(id)),
            Encoded::Text(digits) => {
                U256::from_str_radix(&digits, 10).map(Self).map_err(serde::de::Error::custom)
            }
        }
    }
}
