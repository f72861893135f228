//! `gas_flows`: the gas of each address by day, as sender or as called contract.

use super::Kind::{Integer, Key, Long, Text, Time, Wide};
use super::cells::Cells;
use super::combine::Entry;
use super::{Options, Rows, State, Table, address_flows::day_of, column, fees};
use crate::prove::Proved;
use alloy_primitives::{Address, U512};
use anyhow::{Context, Result};

pub(crate) const TABLE: Table = Table {
    name: "gas_flows",
    comment: "One row per UTC day, role and address: the gas of its transactions.",
    columns: &[
        column("day", Time, "The start of the day, UTC."),
        column("role", Text, "sender; or contract, if it was called with data or created."),
        column("address", Key, "The address."),
        column("transaction_count", Integer, "Transactions."),
        column("failed_count", Integer, "Those that failed."),
        column("gas_used", Long, "Gas they used."),
        column("fees", Wide, "Wei they paid: burnt, tips and for blobs."),
        column("fees_text", Text, "The exact value if it has more than 38 digits, else null."),
        column("first_block", Integer, "The first block with one of them."),
        column("last_block", Integer, "The last block with one of them."),
    ],
};

/// In the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Contract,
    Sender,
}

#[derive(Clone, Debug)]
pub(super) struct GasFlow {
    /// Seconds since 1970.
    day: Option<u64>,
    role: Role,
    address: Address,
    transaction_count: u64,
    failed_count: u64,
    gas_used: u128,
    fees: U512,
    first_block: u64,
    last_block: u64,
}

impl Entry for GasFlow {
    const TABLE: &'static Table = &TABLE;

    fn collect(flows: &mut Vec<Self>, block: &Proved, _: &State, _: Options) {
        let (number, day) = (block.header.number, day_of(block.header.timestamp));
        for paid in fees::paid(block) {
            let Some(fields) = paid.fields else { continue };
            let contract = if fields.to.is_none() {
                paid.creates()
            } else {
                fields.to.filter(|_| !fields.input.is_empty())
            };
            let roles = [(Role::Sender, paid.transaction.sender), (Role::Contract, contract)];
            flows.extend(roles.into_iter().filter_map(|(role, address)| {
                Some(Self {
                    day,
                    role,
                    address: address?,
                    transaction_count: 1,
                    failed_count: u64::from(paid.failed()),
                    gas_used: paid.gas_used.into(),
                    fees: paid.total(),
                    first_block: number,
                    last_block: number,
                })
            }));
        }
    }

    fn read(cells: &Cells, row: usize) -> Result<Self> {
        let integer = |column| cells.integer(column, row)?.context("a number is missing");
        Ok(Self {
            day: cells.time(0, row)?,
            role: if cells.text(1, row)? == Some("sender") { Role::Sender } else { Role::Contract },
            address: cells.address(2, row)?.context("no address")?,
            transaction_count: integer(3)?,
            failed_count: integer(4)?,
            gas_used: cells.long_sum(5, row)?.context("no gas")?,
            fees: cells.sum(6, row)?.context("no fees")?,
            first_block: integer(8)?,
            last_block: integer(9)?,
        })
    }

    fn push(&self, rows: &mut Rows) -> Result<()> {
        rows.time(self.day);
        rows.text(match self.role {
            Role::Contract => "contract",
            Role::Sender => "sender",
        });
        rows.hex(self.address);
        rows.integer(self.transaction_count)?;
        rows.integer(self.failed_count)?;
        rows.long_sum(self.gas_used);
        rows.sum(self.fees);
        rows.integer(self.first_block)?;
        rows.integer(self.last_block)
    }

    fn key(&self) -> impl Ord {
        (self.day, self.role, self.address)
    }

    fn reduce(group: &mut Vec<Self>) {
        for part in group.split_off(1) {
            let whole = &mut group[0];
            whole.transaction_count += part.transaction_count;
            whole.failed_count += part.failed_count;
            whole.gas_used += part.gas_used;
            whole.fees += part.fees;
            whole.first_block = whole.first_block.min(part.first_block);
            whole.last_block = whole.last_block.max(part.last_block);
        }
    }
}
