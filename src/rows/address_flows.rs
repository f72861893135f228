//! `address_flows`: amounts in and out of each address, by asset and day.

use super::Kind::{Integer, Key, Text, Time, Wide};
use super::cells::Cells;
use super::combine::Entry;
use super::movements::{self, Movement};
use super::{Options, Rows, State, Table, column, timestamp};
use crate::prove::Proved;
use alloy_primitives::{Address, U512};
use anyhow::{Context, Result};
use arrow::array::RecordBatch;

/// The table.
pub const TABLE: Table = Table {
    name: "address_flows",
    comment: "One row per asset, address and UTC day: amounts in and out. For tokens without \
        amounts only the transfers are counted.",
    columns: &[
        column("asset", Key, "ETH, or the token's contract."),
        column("address", Key, "The sender or recipient."),
        column("day", Time, "The start of the day, UTC."),
        column("amount_in", Wide, "Amount received, in wei or in the token's smallest unit."),
        column("amount_in_text", Text, "The exact value if it has more than 38 digits, else null."),
        column("amount_out", Wide, "Amount sent, without fees."),
        column(
            "amount_out_text",
            Text,
            "The exact value if it has more than 38 digits, else null.",
        ),
        column("count_in", Integer, "Transfers in."),
        column("count_out", Integer, "Transfers out."),
        column("first_block", Integer, "The first block with one of them."),
        column("last_block", Integer, "The last block with one of them."),
    ],
};

/// Seconds of a day.
pub(crate) const DAY_S: u64 = 86_400;

/// The first second of a time's day; `None` if the time does not fit a `TIMESTAMP`.
pub(super) fn day_of(seconds: u64) -> Option<u64> {
    timestamp(seconds).map(|seconds| seconds / DAY_S * DAY_S)
}

#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// `None` for ether.
    asset: Option<Address>,
    address: Address,
    /// Seconds since 1970; `None` if it does not fit a `TIMESTAMP`.
    day: Option<u64>,
    amount_in: U512,
    amount_out: U512,
    count_in: u64,
    count_out: u64,
    first_block: u64,
    last_block: u64,
}

impl Entry for Flow {
    const TABLE: &'static Table = &TABLE;

    fn collect(flows: &mut Vec<Self>, block: &Proved, state: &State, options: Options) {
        let (number, day) = (block.header.number, day_of(block.header.timestamp));
        for Movement { asset, from, to, amount, .. } in movements::of(block, state, options) {
            let amount = U512::from(amount.unwrap_or_default());
            let flow = |address, amount_in, amount_out, count_in, count_out| Self {
                asset,
                address,
                day,
                amount_in,
                amount_out,
                count_in,
                count_out,
                first_block: number,
                last_block: number,
            };
            flows.extend(from.map(|from| flow(from, U512::ZERO, amount, 0, 1)));
            flows.extend(to.map(|to| flow(to, amount, U512::ZERO, 1, 0)));
        }
    }

    fn read(cells: &Cells, row: usize) -> Result<Self> {
        let integer = |column| cells.integer(column, row)?.context("a number is missing");
        Ok(Self {
            asset: cells.asset(0, row)?,
            address: cells.address(1, row)?.context("no address")?,
            day: cells.time(2, row)?,
            amount_in: cells.sum(3, row)?.context("no amount")?,
            amount_out: cells.sum(5, row)?.context("no amount")?,
            count_in: integer(7)?,
            count_out: integer(8)?,
            first_block: integer(9)?,
            last_block: integer(10)?,
        })
    }

    fn push(&self, rows: &mut Rows) -> Result<()> {
        rows.asset(self.asset);
        rows.hex(self.address);
        rows.time(self.day);
        rows.sum(self.amount_in);
        rows.sum(self.amount_out);
        rows.integer(self.count_in)?;
        rows.integer(self.count_out)?;
        rows.integer(self.first_block)?;
        rows.integer(self.last_block)
    }

    fn key(&self) -> impl Ord {
        // As text: `0x…` sorts before `ETH`.
        (self.asset.is_none(), self.asset, self.address, self.day)
    }

    fn reduce(group: &mut Vec<Self>) {
        for part in group.split_off(1) {
            let whole = &mut group[0];
            whole.amount_in += part.amount_in;
            whole.amount_out += part.amount_out;
            whole.count_in += part.count_in;
            whole.count_out += part.count_out;
            whole.first_block = whole.first_block.min(part.first_block);
            whole.last_block = whole.last_block.max(part.last_block);
        }
    }
}

/// The columns of [`Seen`].
pub(crate) const SEEN: [&str; 8] = [
    "asset",
    "address",
    "amount_in",
    "amount_in_text",
    "amount_out",
    "amount_out_text",
    "first_block",
    "last_block",
];

/// What the ranking of holders needs of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// `None` for ether.
    pub asset: Option<Address>,
    /// The sender or recipient.
    pub address: Address,
    /// Amount received.
    pub amount_in: U512,
    /// Amount sent.
    pub amount_out: U512,
    /// The first and the last block with a transfer.
    pub blocks: (u64, u64),
}

/// Passes on each row of a batch of [`SEEN`].
pub(crate) fn seen(batch: &RecordBatch, mut take: impl FnMut(Seen)) -> Result<()> {
    let cells = Cells::of(batch);
    for row in 0..batch.num_rows() {
        let block = |column| cells.integer(column, row)?.context("no block");
        take(Seen {
            asset: cells.asset(0, row)?,
            address: cells.address(1, row)?.context("no address")?,
            amount_in: cells.sum(2, row)?.context("no amount")?,
            amount_out: cells.sum(4, row)?.context("no amount")?,
            blocks: (block(6)?, block(7)?),
        });
    }
    Ok(())
}
