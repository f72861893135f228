//! A cursor over the items of an RLP list that returns each item's own bytes.
//!
//! `alloy-rlp` decodes into owned values, but roots and hashes need the original slices. So the
//! list is walked here, and alloy decodes each item's header.

use alloy_primitives::Uint;
use alloy_rlp::{Decodable, Header};
use anyhow::{Context, Result, ensure};

/// The items of one RLP list, in order, each with its header.
#[derive(Clone, Debug)]
pub(crate) struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    /// The items of `raw`, which must be one RLP list and nothing after it.
    pub(crate) fn list(raw: &'a [u8]) -> Result<Self> {
        let mut rest = raw;
        let header = Header::decode(&mut rest)?;
        ensure!(header.list, "expected a list, found a string");
        ensure!(
            rest.len() == header.payload_length,
            "{} bytes after the list",
            rest.len() - header.payload_length
        );
        Ok(Self { rest })
    }

    /// Items that have not been taken yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next item with its header; an error at the end of the list.
    pub(crate) fn next_item(&mut self) -> Result<&'a [u8]> {
        self.next().context("list is too short")?
    }

    /// The next item as a byte string.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        Ok(Header::decode_bytes(&mut self.next_item()?, false)?)
    }

    /// The next item as a value of fixed length: a hash, an address, a bloom.
    pub(crate) fn fixed<T: for<'b> TryFrom<&'b [u8]>>(&mut self) -> Result<T> {
        let bytes = self.bytes()?;
        T::try_from(bytes).map_err(|_| anyhow::anyhow!("wrong length: {} bytes", bytes.len()))
    }

    /// The next item as a number of up to 64 bits.
    pub(super) fn integer(&mut self) -> Result<u64> {
        u64::decode(&mut self.next_item()?).map_err(|error| not_a_number(error, 64))
    }

    /// The next item as a number of up to this many bits: 256 for amounts.
    pub(super) fn wide<const BITS: usize, const LIMBS: usize>(
        &mut self,
    ) -> Result<Uint<BITS, LIMBS>> {
        Uint::decode(&mut self.next_item()?).map_err(|error| not_a_number(error, BITS))
    }
}

/// Why an item is not a number of this many bits.
fn not_a_number(error: alloy_rlp::Error, bits: usize) -> anyhow::Error {
    match error {
        alloy_rlp::Error::Overflow => {
            anyhow::anyhow!("a number that exceeds the protocol's {bits} bits")
        }
        error => error.into(),
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let mut rest = self.rest;
        let taken = Header::decode(&mut rest).map(|header| {
            // A single byte below 0x80 is its own header: `rest` still includes it.
            let length = self.rest.len() - rest.len() + header.payload_length;
            let (item, after) = self.rest.split_at(length);
            self.rest = after;
            item
        });
        if taken.is_err() {
            self.rest = &[];
        }
        Some(taken.map_err(Into::into))
    }
}

/// The payload of `item` if it is a string (a typed transaction), the complete item if it is a list
/// (a legacy one).
pub(super) fn unwrap_string(item: &[u8]) -> Result<&[u8]> {
    if item.first().is_some_and(|byte| *byte >= 0xc0) {
        return Ok(item);
    }
    Ok(Header::decode_bytes(&mut &*item, false)?)
}
