//! One era file: up to 8,192 blocks, each part of a block an entry of its own, with an index at the
//! end.
//!
//! An entry is a type of two bytes, the payload's length in four, two zero bytes, and the payload;
//! all numbers are little-endian. Payloads are RLP in snappy's frame format. The index is an entry
//! too: the first block's number, offsets relative to the start of the index, how many of them a
//! block has (`ere` only), and the number of blocks.
//!
//! Source: geth 1.17, `internal/era`: `e2store`, `onedb` (`era1`), `execdb` (`ere`).

use super::error::Error;
use super::receipts::{self, Form};
use super::table::read_exact;
use alloy_primitives::{B256, keccak256};
use snap::read::FrameDecoder;
use std::fs::File;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::PathBuf;

/// Blocks of a file at most.
pub(super) const BLOCKS_MAX: u64 = 8_192;

/// No chain has a block with a larger number.
const NUMBER_MAX: u64 = 1 << 48;

/// Offsets per block in an index, at most: header, body, receipts, total difficulty, proof.
const WIDTH_MAX: u64 = 5;

/// Length of an entry's header, and of a number.
const WORD: u64 = 8;

/// The start of a file: an entry of type `e2` without a payload.
const VERSION: [u8; WORD as usize] = *b"e2\0\0\0\0\0\0";

/// Limit on the bytes of one part, stored and decompressed: no block is that large, and a hostile
/// file must not fill the memory.
const PART_BYTES_MAX: u64 = 128 << 20;

const HEADER: u16 = 0x03;
const BODY: u16 = 0x04;
const RECEIPTS: u16 = 0x05;
const SLIM_RECEIPTS: u16 = 0x0a;
const INDEX: u16 = 0x3266;
const WIDE_INDEX: u16 = 0x3267;

/// Where a block's header, body and receipts are in the decompressed data.
type Parts = [Range<usize>; 3];

/// An era file, opened.
#[derive(Debug)]
pub(super) struct Era {
    pub(super) path: PathBuf,
    /// The number of its first block.
    pub(super) first: u64,
    /// The number of its last block.
    pub(super) last: u64,
    file: File,
    /// Start of the index, which is the end of the blocks.
    index: u64,
    /// Offsets per block in the index.
    width: u64,
    layout: Layout,
    /// Decompresses one payload after the other.
    decoder: FrameDecoder<Cursor<Vec<u8>>>,
}

/// Which parts the index has offsets of.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// `era1`: of the header; body and receipts follow it.
    Together,
    /// `ere`: of header, body and receipts, at these positions among a block's offsets.
    Apart([u64; 3]),
}

impl Era {
    /// Opens a file that ends in `.era1` or `.ere`, and reads the end of its index.
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        let unreadable = |source| Error::Unreadable { path: path.clone(), source };
        let file = File::open(&path).map_err(unreadable)?;
        let end = file.metadata().map_err(unreadable)?.len();
        let is_era1 = path.extension().is_some_and(|extension| extension == "era1");
        let mut era = Self {
            path,
            first: 0,
            last: 0,
            file,
            index: end,
            width: 1,
            layout: Layout::Together,
            decoder: FrameDecoder::new(Cursor::new(Vec::new())),
        };
        match era.read_index(end, is_era1) {
            Ok(true) => Ok(era),
            Ok(false) => Err(Error::NoReceipts { path: era.path }),
            Err(reason) => Err(Error::Meta { path: era.path, reason }),
        }
    }

    /// Reads the end of the index, and returns whether the file has receipts: in an `ere` they are
    /// optional.
    fn read_index(&mut self, end: u64, is_era1: bool) -> Result<bool, String> {
        let last_words = if is_era1 { 1 } else { 2 };
        if self.bytes(0)? != VERSION || end < WORD * (4 + last_words) {
            return Err("it is not an era file, or is incomplete".to_owned());
        }
        let count = self.number(end - WORD)?;
        self.width = if is_era1 { 1 } else { self.number(end - 2 * WORD)? };
        if !(1..=BLOCKS_MAX).contains(&count) || !(1..=WIDTH_MAX).contains(&self.width) {
            return Err(format!("it is incomplete, or its index of {count} blocks is wrong"));
        }
        let length = WORD * (1 + count * self.width + last_words);
        self.index = end.checked_sub(WORD + length).ok_or("its index is larger than the file")?;
        self.expect(self.index, if is_era1 { INDEX } else { WIDE_INDEX }, |found| found == length)?;
        self.first = self.number(self.index + WORD)?;
        if self.first > NUMBER_MAX {
            return Err(format!("it begins at block {}", self.first));
        }
        self.last = self.first + count - 1;
        if is_era1 {
            return Ok(true);
        }
        let layout = self.find_parts()?;
        self.layout = layout.unwrap_or(self.layout);
        Ok(layout.is_some())
    }

    /// Determines which offsets of the first block are those of which part, by the types of their
    /// entries; `None` if it has no receipts.
    fn find_parts(&self) -> Result<Option<Layout>, String> {
        let places = self.places(self.first)?;
        let types = places
            .iter()
            .map(|place| self.bytes(*place).map(head_type))
            .collect::<Result<Vec<_>, _>>()?;
        let position = |wanted| {
            types.iter().position(|found| *found == wanted).map(|position| position as u64)
        };
        let header = position(HEADER).ok_or("it has no headers")?;
        let body = position(BODY).ok_or("it has no bodies")?;
        Ok(position(SLIM_RECEIPTS).map(|receipts| Layout::Apart([header, body, receipts])))
    }

    /// Whether it has this block.
    pub(super) fn holds(&self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// A block's hash, computed from its header.
    pub(super) fn hash(&mut self, number: u64) -> Result<B256, Error> {
        let mut plain = Vec::new();
        let header = self.places(number).and_then(|places| {
            let place = match self.layout {
                Layout::Together => places[0],
                Layout::Apart([header, ..]) => places[header as usize],
            };
            self.append_part(place, HEADER, &mut plain)
        });
        header.map_err(|reason| self.damaged(number, reason))?;
        Ok(keccak256(plain))
    }

    /// Appends a block's decompressed parts, receipts in the freezer's form, and returns where each
    /// is and how many bytes were read.
    pub(super) fn append(
        &mut self,
        number: u64,
        plain: &mut Vec<u8>,
    ) -> Result<(Parts, u64), Error> {
        self.append_parts(number, plain).map_err(|reason| self.damaged(number, reason))
    }

    fn append_parts(&mut self, number: u64, plain: &mut Vec<u8>) -> Result<(Parts, u64), String> {
        let places = self.places(number)?;
        let (kind, form) = match self.layout {
            Layout::Together => (RECEIPTS, Form::Consensus),
            Layout::Apart(_) => (SLIM_RECEIPTS, Form::Slim),
        };
        let mut parts = Parts::default();
        let (mut next, mut bytes) = (places[0], 0);
        for (part, kind) in [HEADER, BODY, kind].into_iter().enumerate() {
            let place = match self.layout {
                Layout::Together => next,
                Layout::Apart(positions) => places[positions[part] as usize],
            };
            let start = plain.len();
            next = self.append_part(place, kind, plain)?;
            bytes += next - place;
            if part == 2 {
                let stored = receipts::stored(&plain[start..], form)?;
                plain.truncate(start);
                plain.extend(stored);
            }
            parts[part] = start..plain.len();
        }
        Ok((parts, bytes))
    }

    /// Appends the decompressed payload of an entry, and returns where the next entry is.
    fn append_part(&mut self, place: u64, kind: u16, plain: &mut Vec<u8>) -> Result<u64, String> {
        let start = place + WORD;
        let room = (self.index.saturating_sub(start)).min(PART_BYTES_MAX);
        let length = self.expect(place, kind, |length| length <= room)?;
        let cursor = self.decoder.get_mut();
        cursor.set_position(0);
        cursor.get_mut().resize(length as usize, 0);
        read_exact(&self.file, &self.path, cursor.get_mut(), start)
            .map_err(|error| error.to_string())?;
        let appended = (&mut self.decoder).take(PART_BYTES_MAX + 1).read_to_end(plain);
        if appended.map_err(|error| error.to_string())? as u64 > PART_BYTES_MAX {
            return Err(format!("{length} bytes decompress to more than {PART_BYTES_MAX}"));
        }
        Ok(start + length)
    }

    /// The offsets of a block in the index.
    fn places(&self, number: u64) -> Result<Vec<u64>, String> {
        let at = self.index + WORD * (2 + (number - self.first) * self.width);
        (0..self.width)
            .map(|position| {
                let relative = i64::from_le_bytes(self.bytes(at + position * WORD)?);
                let place =
                    self.index.checked_add_signed(relative).filter(|place| *place < self.index);
                place.ok_or_else(|| format!("its offset is {relative} bytes from the index"))
            })
            .collect()
    }

    /// The length of the payload of an entry, which must be of this type.
    fn expect(
        &self,
        place: u64,
        kind: u16,
        is_length: impl Fn(u64) -> bool,
    ) -> Result<u64, String> {
        let head = self.bytes(place)?;
        let [_, _, length @ .., zero, nought] = head;
        let length = u64::from(u32::from_le_bytes(length));
        if head_type(head) != kind || [zero, nought] != [0, 0] || !is_length(length) {
            let found = head_type(head);
            return Err(format!(
                "at byte {place} is an entry of type {found:#x} with {length} bytes, not {kind:#x}"
            ));
        }
        Ok(length)
    }

    fn number(&self, at: u64) -> Result<u64, String> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    fn bytes(&self, at: u64) -> Result<[u8; WORD as usize], String> {
        let mut bytes = [0; WORD as usize];
        read_exact(&self.file, &self.path, &mut bytes, at).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    pub(super) fn damaged(&self, number: u64, reason: String) -> Error {
        Error::Era { path: self.path.clone(), number, reason }
    }
}

fn head_type([low, high, ..]: [u8; WORD as usize]) -> u16 {
    u16::from_le_bytes([low, high])
}
