//! One block: rebuilt from its rows, proved, and everything derived from it compared with what is
//! stored, cell by cell.

use super::cell::text_of;
use super::ether;
use super::fault::Fault;
use super::rebuild::{self, RebuiltBlock};
use crate::decode::{Block, Depth};
use crate::prove::{BlobSchedule, Expected, Mismatch, Proved, prove};
use crate::recover;
use crate::rows::balances::Balance;
use crate::rows::{Batch, Issuance, Options, Part, Selection, State, Table, native_transfers};
use crate::store::BlockLink;
use alloy_primitives::{Address, B256};
use arrow::array::{RecordBatch, StringArray};

/// What a block's rows depend on besides the block itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// The blob schedule.
    pub schedule: BlobSchedule,
    /// The block rewards.
    pub issuance: Issuance,
    /// The wrapped ether contract.
    pub weth: Option<Address>,
    /// Whether senders are recovered in batches, and not by libsecp256k1 alone.
    pub is_fast: bool,
}

/// A block as stored.
#[derive(Debug)]
pub(super) struct StoredBlock {
    /// Its height, from its place in the file or the file's name.
    pub number: u64,
    /// Its hash from elsewhere than its own rows: the next block, the manifest or the file's name.
    pub named: Option<B256>,
    /// The stored tables, including those of [`rebuild::needed`].
    pub selection: Selection,
    /// Its rows, one batch for each of them.
    pub tables: Vec<RecordBatch>,
    /// The tables that lack rows of it.
    pub partial: Selection,
    /// The tables combined over many blocks whose parts are requested.
    pub combined: Selection,
    /// The balances after it, if they are stored with it.
    pub balances: Vec<Balance>,
}

/// The outcome of a check.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub faults: Vec<Fault>,
    /// The block's part of each combined table; empty if there is a fault.
    pub combined: Vec<Part>,
}

impl StoredBlock {
    /// The hash in the block's own row.
    fn hash(&self) -> Option<B256> {
        self.tables[0]["hash"].as_any().downcast_ref::<StringArray>()?.iter().next()??.parse().ok()
    }

    /// Every fault of the block: the first that keeps it from being proved, or else every cell that
    /// differs from what the block becomes. The header of a tail file is compared with its block
    /// too.
    pub(super) fn check(&self, rules: &Rules, link: Option<&BlockLink>) -> Checked {
        let compared =
            self.prove(rules).and_then(|proved| Ok((self.compare(&proved, rules)?, proved)));
        let (Checked { mut faults, combined }, proved) = match compared {
            Ok(compared) => compared,
            Err(fault) => return Checked { faults: vec![fault], ..Checked::default() },
        };
        let header = &proved.header;
        if let Some(link) = link.filter(|link| {
            (link.parent_hash, link.timestamp) != (header.parent_hash, header.timestamp)
        }) {
            let text = |hash: B256, timestamp: u64| format!("{hash}, {timestamp} s");
            let (expected, found) = (
                text(header.parent_hash, header.timestamp),
                text(link.parent_hash, link.timestamp),
            );
            faults.push(
                Fault::new("tail", "parent hash and time", expected, found).of_block(self.number),
            );
        }
        Checked { faults, combined }
    }

    fn prove(&self, rules: &Rules) -> Result<Proved, Fault> {
        let number = self.number;
        let RebuiltBlock { header, body, receipts } = rebuild::block(number, &self.tables)?;
        let unreadable = |check, error: anyhow::Error| {
            Fault::new("blocks", check, "what decodes", format!("{error:#}")).of_block(number)
        };
        let mut block = Block::decode_stored(header, body, &receipts, Depth::Fields)
            .map_err(|error| unreadable("rebuilt RLP", error))?;
        let recovered = if rules.is_fast {
            recover::senders_of(&mut block)
        } else {
            recover::senders_by_libsecp256k1(&mut block)
        };
        // The hash of the header columns, the row's hash and the hash from elsewhere: two that
        // agree are right.
        let hash = block.header.hash;
        let held = [self.hash(), self.named].contains(&Some(hash));
        let expected = Expected {
            number,
            hash: if held { None } else { self.named.or(self.hash()) },
            parent_hash: None,
        };
        let proved = prove(block, &expected, &rules.schedule)
            .map_err(|failed| self.locate(&failed.0, &failed.1))?;
        // Only now: an invalid signature usually belongs to a transaction that is not of the block.
        recovered.map_err(|error| unreadable("sender", error))?;
        Ok(proved)
    }

    /// Locates the rows that a failed check is about.
    fn locate(&self, mismatch: &Mismatch, block: &Block) -> Fault {
        let fault = |place: &str, check| {
            Fault::new(place, check, &mismatch.expected, &mismatch.found).of_block(self.number)
        };
        match mismatch.check {
            "transactions root" => {
                // The row's own hash shows which transaction was changed.
                let stored = self.tables[1]["hash"]
                    .as_any()
                    .downcast_ref::<StringArray>()
                    .expect("a text column");
                let rebuilt =
                    block.transactions.iter().map(|transaction| transaction.hash.to_string());
                let changed = rebuilt
                    .zip(stored)
                    .enumerate()
                    .find(|(_, (rebuilt, stored))| *stored != Some(rebuilt));
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
            "receipts root" | "logs bloom" | "cumulative gas" => {
                fault("transactions and logs", mismatch.check)
            }
            "withdrawals root" => fault("withdrawals", mismatch.check),
            "uncles hash" => fault("uncles", mismatch.check),
            check => fault("blocks", check),
        }
    }

    /// Compares what the block becomes with what is stored.
    fn compare(&self, proved: &Proved, rules: &Rules) -> Result<Checked, Fault> {
        let options = |tables| Options { weth: rules.weth, issuance: rules.issuance, tables };
        let mut state = State::missing("not requested");
        if !self.balances.is_empty() {
            let of_ether = self.balances.iter().filter(|balance| balance.asset.is_none());
            state.balances =
                Ok(of_ether.map(|balance| (balance.address, balance.balance)).collect());
            let of_token =
                |balance: &Balance| Some((balance.asset?, balance.address, balance.balance));
            state.token_balances = self.balances.iter().filter_map(of_token).collect();
        }
        if let Some(index) = self.selection.position(&native_transfers::TABLE) {
            let partial = self.partial.has(&native_transfers::TABLE);
            state.movements = Some(ether::expected(
                proved,
                &self.tables[index],
                partial,
                options(self.selection),
            )?);
        }
        let made = |tables: Selection| -> Result<Vec<Part>, Fault> {
            let each = |table: &'static Table| {
                self.made(proved, options(Selection::of_known([table.name])), &state)
            };
            tables.tables().map(each).collect()
        };
        let mut faults = Vec::new();
        for ((table, expected), found) in
            self.selection.tables().zip(made(self.selection)?).zip(&self.tables)
        {
            let expected = expected.rows().map_err(|error| self.too_large(&error))?;
            if expected.num_rows() != found.num_rows() {
                let fault = Fault::new(table.name, "rows", expected.num_rows(), found.num_rows());
                faults.push(fault.of_block(self.number));
                continue;
            }
            let differing = differing_cells(table, &expected, found).into_iter();
            faults.extend(differing.map(|(row, fault)| fault.of_block(self.number).of_row(row)));
        }
        let combined = if faults.is_empty() { made(self.combined)? } else { Vec::new() };
        Ok(Checked { faults, combined })
    }

    /// The block's rows of one table, given the transfers of ether; without them, if they were not
    /// known when it was written.
    fn made(&self, proved: &Proved, options: Options, state: &State) -> Result<Part, Fault> {
        let alone =
            self.partial.covers(options.tables) && !self.partial.has(&native_transfers::TABLE);
        let mut batch = Batch::new(options);
        let pushed = if alone {
            batch.push(proved, &State::missing("not requested"))
        } else {
            batch.push(proved, state)
        };
        pushed.map_err(|error| self.too_large(&error))?;
        Ok(batch.parts().remove(0))
    }

    fn too_large(&self, error: &anyhow::Error) -> Fault {
        Fault::new("blocks", "rows", "numbers that fit", format!("{error:#}")).of_block(self.number)
    }
}

/// Every cell in which two batches of the same length differ, by row.
pub(super) fn differing_cells(
    table: &Table,
    expected: &RecordBatch,
    found: &RecordBatch,
) -> Vec<(usize, Fault)> {
    let mut faults = Vec::new();
    for (column, (expected, found)) in
        table.columns.iter().zip(expected.columns().iter().zip(found.columns()))
    {
        if expected == found {
            continue;
        }
        for row in 0..expected.len() {
            if expected.slice(row, 1) != found.slice(row, 1) {
                let fault = Fault::new(
                    table.name,
                    column.name,
                    text_of(expected, row),
                    text_of(found, row),
                );
                faults.push((row, fault));
            }
        }
    }
    faults
}
