//! A freezer written from the description of its format, for states that geth cannot be made to
//! produce in a test: several data files per table, a truncated or hidden front, either version of
//! metadata.

use crate::fake_geth::FakeBlock;
use alloy_rlp::Header;
use std::fs;
use std::path::Path;

/// A freezer to write.
#[derive(Clone, Debug)]
pub struct Ancient {
    /// The number of the first block.
    pub first: u64,
    /// Every block from there on.
    pub blocks: Vec<AncientBlock>,
    /// Bytes of a data file at most; geth has two billion.
    pub file_bytes_max: usize,
    /// Bodies and receipts below this block are pruned: hidden, and deleted if their whole data
    /// file is below it.
    pub tail: u64,
    /// Version of the metadata.
    pub meta_version: u64,
}

/// One stored block.
#[derive(Clone, Debug)]
pub struct AncientBlock {
    pub hash: Vec<u8>,
    pub header: Vec<u8>,
    pub body: Vec<u8>,
    pub receipts: Vec<u8>,
}

impl AncientBlock {
    /// A block from the node's raw calls.
    pub fn from_raw(block: &FakeBlock) -> Self {
        let parts = items(&block.raw_block);
        let receipts: Vec<Vec<u8>> = block
            .raw_receipts
            .iter()
            .map(|raw| {
                let fields = items(if raw[0] < 0xc0 { &raw[1..] } else { raw });
                // The bloom is omitted.
                list(&[fields[0], fields[1], fields[3]])
            })
            .collect();
        let receipts: Vec<&[u8]> = receipts.iter().map(Vec::as_slice).collect();
        Self {
            hash: block.hash.to_vec(),
            header: parts[0].to_vec(),
            body: list(&parts[1..]),
            receipts: list(&receipts),
        }
    }
}

impl Ancient {
    /// A freezer of these blocks with one data file per table.
    pub fn new(first: u64, blocks: Vec<AncientBlock>) -> Self {
        Self { first, blocks, file_bytes_max: 2_000_000_000, tail: 0, meta_version: 2 }
    }

    /// Writes it.
    pub fn write(&self, directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("FLOCK"), "").unwrap();
        let items =
            |part: fn(&AncientBlock) -> &[u8]| self.blocks.iter().map(part).collect::<Vec<_>>();
        self.write_table(directory, "hashes", false, 0, &items(|block| &block.hash));
        self.write_table(directory, "headers", true, 0, &items(|block| &block.header));
        self.write_table(directory, "bodies", true, self.tail, &items(|block| &block.body));
        self.write_table(directory, "receipts", true, self.tail, &items(|block| &block.receipts));
        self.write_table(directory, "bals", true, self.tail, &items(|_| &[]));
    }

    fn write_table(
        &self,
        directory: &Path,
        name: &str,
        compressed: bool,
        tail: u64,
        items: &[&[u8]],
    ) {
        let suffix = if compressed { 'c' } else { 'r' };
        let mut files: Vec<Vec<u8>> = vec![Vec::new()];
        let mut entries = Vec::new();
        for item in items {
            let stored = match compressed {
                true => snap::raw::Encoder::new().compress_vec(item).unwrap(),
                false => item.to_vec(),
            };
            if files[files.len() - 1].len() + stored.len() > self.file_bytes_max {
                files.push(Vec::new());
            }
            let number = files.len() - 1;
            files[number].extend(stored);
            entries.push((number, files[number].len()));
        }
        // As geth does it: whole files below the tail are deleted, and with them the index entries
        // of their items.
        let hidden = (tail.saturating_sub(self.first) as usize).min(items.len());
        let tail_file = entries.get(hidden).map_or(files.len() - 1, |(file, _)| *file);
        let gone = entries.iter().take_while(|(file, _)| *file < tail_file).count();
        let mut index = entry(tail_file, self.first as usize + gone);
        entries[gone..].iter().for_each(|(file, end)| index.extend(entry(*file, *end)));
        for (number, bytes) in files.iter().enumerate().skip(tail_file) {
            fs::write(directory.join(format!("{name}.{number:04}.{suffix}dat")), bytes).unwrap();
        }
        fs::write(directory.join(format!("{name}.{suffix}idx")), &index).unwrap();
        let mut meta = vec![self.meta_version, tail];
        if self.meta_version == 2 {
            meta.push(index.len() as u64);
        }
        fs::write(directory.join(format!("{name}.meta")), alloy_rlp::encode(meta)).unwrap();
    }
}

fn entry(file: usize, offset: usize) -> Vec<u8> {
    [&u16::try_from(file).unwrap().to_be_bytes()[..], &u32::try_from(offset).unwrap().to_be_bytes()]
        .concat()
}

/// The items of an RLP list, each with its header.
pub fn items(raw: &[u8]) -> Vec<&[u8]> {
    let mut rest = Header::decode_bytes(&mut &raw[..], true).unwrap();
    let mut items = Vec::new();
    while !rest.is_empty() {
        let mut after = rest;
        let header = Header::decode(&mut after).unwrap();
        let length = rest.len() - after.len() + header.payload_length;
        items.push(&rest[..length]);
        rest = &rest[length..];
    }
    items
}

/// An RLP list of encoded items.
pub fn list(items: &[&[u8]]) -> Vec<u8> {
    let mut raw = Vec::new();
    let payload_length = items.iter().map(|item| item.len()).sum();
    Header { list: true, payload_length }.encode(&mut raw);
    items.iter().for_each(|item| raw.extend_from_slice(item));
    raw
}
