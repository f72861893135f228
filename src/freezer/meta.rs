//! `TABLE.meta`: how many items are deleted or hidden, and how much of the index is durable.
//!
//! geth overwrites it from the start of the file and does not truncate it, so stale bytes may
//! follow.

use alloy_rlp::{Decodable, Header};

/// A table's metadata, in either version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Items below this number are deleted, or will be once their whole file can be deleted.
    pub virtual_tail: u64,
    /// Length of the index, in bytes, up to which index and data are durable; version 1 does not
    /// record it.
    pub flush_offset: Option<u64>,
}

impl Meta {
    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, String> {
        let mut fields =
            Header::decode_bytes(&mut bytes, true).map_err(|error| error.to_string())?;
        let mut number = || u64::decode(&mut fields).map_err(|error| error.to_string());
        match number()? {
            1 => Ok(Self { virtual_tail: number()?, flush_offset: None }),
            2 => Ok(Self { virtual_tail: number()?, flush_offset: Some(number()?) }),
            version => Err(format!("version {version} is not supported, only 1 and 2 are")),
        }
    }
}
