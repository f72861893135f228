//! One block: rebuilt from its rows, proved, and everything that it becomes compared with what is stored, cell by cell.

use super::cell::text_of;
use super::fault::Fault;
use super::rebuild::{self, Raw};
use crate::decode::{Block, Depth};
use crate::prove::{BlobSchedule, Expected, Mismatch, Proved, prove};
use crate::rows::{Batch, Options, Selection, State, Table};
use crate::store::BlockLink;
use alloy_primitives::{Address, B256};
use arrow::array::{RecordBatch, StringArray};

/// What a block's rows depend on beside the block itself.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// How the chain prices blobs.
    pub schedule: BlobSchedule,
    /// Its wrapped ether.
    pub weth: Option<Address>,
}

/// A block as it is stored.
#[derive(Debug)]
pub struct StoredBlock {
    /// Its height, told by its place in the file or by the file's name.
    pub number: u64,
    /// Its hash as told by another than its own rows: the next block, the manifest or the file's name.
    pub named: Option<B256>,
    /// The tables that are held, those that are [`rebuild::needed`] among them.
    pub selection: Selection,
    /// Its rows, one batch for each of them.
    pub tables: Vec<RecordBatch>,
}

impl StoredBlock {
    /// The hash in the block's own row.
    fn hash(&self) -> Option<B256> {
        self.tables[0]["hash"].as_any().downcast_ref::<StringArray>()?.iter().next()??.parse().ok()
    }

    /// Every fault of the block: the first that keeps it from being proved, or else every cell that is not what the block becomes.
    /// A tail file's own words about its block are held against it too.
    pub fn check(&self, rules: &Rules, link: Option<&BlockLink>) -> Vec<Fault> {
        let proved = match self.prove(rules) {
            Ok(proved) => proved,
            Err(fault) => return vec![fault],
        };
        let mut faults = self.compare(&proved, rules);
        let header = &proved.header;
        if let Some(link) =
            link.filter(|link| (link.parent_hash, link.timestamp) != (header.parent_hash, header.timestamp))
        {
            let text = |hash: B256, timestamp: u64| format!("{hash}, {timestamp} s");
            let (expected, found) =
                (text(header.parent_hash, header.timestamp), text(link.parent_hash, link.timestamp));
            faults.push(Fault::new("tail", "parent hash and time", expected, found).of_block(self.number));
        }
        faults
    }

    fn prove(&self, rules: &Rules) -> Result<Proved, Fault> {
        let number = self.number;
        let Raw { header, body, receipts } = rebuild::block(number, &self.tables)?;
        let unreadable = |check, error: anyhow::Error| {
            Fault::new("blocks", check, "what decodes", format!("{error:#}")).of_block(number)
        };
        let mut block = Block::decode_stored(header, body, &receipts, Depth::Fields)
            .map_err(|error| unreadable("rebuilt RLP", error))?;
        let recovered = block.recover_senders();
        // The header's own columns, the row's hash and whoever else names the block: the two that agree are right.
        let hash = block.header.hash;
        let held = [self.hash(), self.named].contains(&Some(hash));
        let expected =
            Expected { number, hash: if held { None } else { self.named.or(self.hash()) }, parent_hash: None };
        let proved = prove(block, &expected, &rules.schedule).map_err(|failed| self.locate(&failed.0, &failed.1))?;
        // Only now: a signature that recovers nothing most often belongs to a transaction that is not of the block.
        recovered.map_err(|error| unreadable("sender", error))?;
        Ok(proved)
    }

    /// Where the rows are that a failed check is about.
    fn locate(&self, mismatch: &Mismatch, block: &Block) -> Fault {
        let fault =
            |place: &str, check| Fault::new(place, check, &mismatch.expected, &mismatch.found).of_block(self.number);
        match mismatch.check {
            "transactions root" => {
                // The row's own hash tells which transaction is not the one that was stored.
                let stored = self.tables[1]["hash"].as_any().downcast_ref::<StringArray>().expect("a column of texts");
                let rebuilt = block.transactions.iter().map(|transaction| transaction.hash.to_string());
                let changed = rebuilt.zip(stored).enumerate().find(|(_, (rebuilt, stored))| *stored != Some(rebuilt));
                match changed {
                    Some((row, (rebuilt, stored))) => {
                        let check = "transactions root, hash of the row's envelope";
                        Fault::new("transactions", check, stored.unwrap_or("null"), rebuilt)
                            .of_block(self.number)
                            .of_row(row)
                    }
                    None => fault("transactions", mismatch.check),
                }
            }
            "receipts root" | "logs bloom" | "cumulative gas" => fault("transactions and logs", mismatch.check),
            "withdrawals root" => fault("withdrawals", mismatch.check),
            "uncles hash" => fault("uncles", mismatch.check),
            check => fault("blocks", check),
        }
    }

    fn compare(&self, proved: &Proved, rules: &Rules) -> Vec<Fault> {
        let mut batch = Batch::new(Options { weth: rules.weth, tables: self.selection, ..Options::default() });
        let expected = match batch.push(proved, &State::missing("not asked for")).and_then(|()| batch.finish()) {
            Ok(expected) => expected,
            Err(error) => {
                let found = format!("{error:#}");
                return vec![Fault::new("blocks", "rows", "numbers that fit", found).of_block(self.number)];
            }
        };
        let tables = self.selection.tables().zip(expected).zip(&self.tables);
        tables.flat_map(|((table, expected), found)| differing(table, self.number, &expected, found)).collect()
    }
}

/// Every cell in which two batches of a block's rows differ.
fn differing(table: &Table, number: u64, expected: &RecordBatch, found: &RecordBatch) -> Vec<Fault> {
    if expected.num_rows() != found.num_rows() {
        return vec![Fault::new(table.name, "rows", expected.num_rows(), found.num_rows()).of_block(number)];
    }
    let mut faults = Vec::new();
    for (column, (expected, found)) in table.columns.iter().zip(expected.columns().iter().zip(found.columns())) {
        if expected == found {
            continue;
        }
        for row in 0..expected.len() {
            if expected.slice(row, 1) != found.slice(row, 1) {
                let fault = Fault::new(table.name, column.name, text_of(expected, row), text_of(found, row));
                faults.push(fault.of_block(number).of_row(row));
            }
        }
    }
    faults
}
