//! The two tables of a ranking.

use super::amounts::FITS_NOT;
use crate::rows::Kind::{Integer, Key, Text, Wide};
use crate::rows::{Rows, Table, column};
use alloy_primitives::{Address, U256, U512};
use anyhow::Result;

/// The largest holders.
pub(crate) const HOLDERS: Table = Table {
    name: "holders",
    comment: "One row per asset and address among the largest holders, after the last block of the \
              ranking.",
    columns: &[
        column("asset", Key, "ETH, or the token's contract."),
        column("address", Key, "The address."),
        column("balance", Wide, "In wei, or in the token's smallest unit."),
        column("balance_text", Text, FITS_NOT),
        column(
            "block_number",
            Integer,
            "The last block that changed it, of those whose balances are stored.",
        ),
        column(
            "balance_24h",
            Wide,
            "The balance a day before the ranking's last block; null if it is not known.",
        ),
        column("balance_24h_text", Text, FITS_NOT),
        column(
            "balance_7d",
            Wide,
            "The balance a week before the ranking's last block; null if it is not known.",
        ),
        column("balance_7d_text", Text, FITS_NOT),
        column(
            "first_block",
            Integer,
            "The first stored block in which it moved the asset, or null.",
        ),
        column("last_block", Integer, "The last, or null."),
    ],
};

/// Totals for each asset.
pub(crate) const ASSETS: Table = Table {
    name: "assets",
    comment: "One row per asset with balances, after the last block of the ranking.",
    columns: &[
        column("asset", Key, "ETH, or the token's contract."),
        column("address_count", Integer, "Number of addresses whose balance is known."),
        column("balance", Wide, "Their total."),
        column("balance_text", Text, FITS_NOT),
        column(
            "least",
            Wide,
            "The balance of the last ranked holder if not all are ranked; else null.",
        ),
        column("least_text", Text, FITS_NOT),
        column(
            "least_address",
            Text,
            "That holder, or null. Among equal balances the lower address comes first.",
        ),
    ],
};

/// A row of [`HOLDERS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RankedHolder {
    /// The address.
    pub address: Address,
    /// Its balance.
    pub balance: U256,
    /// The last block that changed it.
    pub block_number: u64,
    /// Its balance a day before, and a week before.
    pub before: [Option<U256>; 2],
    /// The first and the last block in which it moved the asset.
    pub seen: Option<(u64, u64)>,
}

impl RankedHolder {
    pub(super) fn push(&self, asset: Option<Address>, rows: &mut Rows) -> Result<()> {
        rows.asset(asset);
        rows.hex(self.address);
        rows.wide(self.balance);
        rows.integer(self.block_number)?;
        self.before.into_iter().for_each(|balance| rows.wide(balance));
        rows.integer(self.seen.map(|(first, _)| first))?;
        rows.integer(self.seen.map(|(_, last)| last))
    }
}

/// A row of [`ASSETS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asset {
    /// `None` for ether.
    pub asset: Option<Address>,
    /// Number of addresses whose balance is known.
    pub address_count: u64,
    /// The sum of their balances.
    pub balance: U512,
    /// The last ranked holder with its balance; `None` if all are ranked.
    pub least: Option<(U256, Address)>,
}

impl Asset {
    pub(super) fn push(&self, rows: &mut Rows) -> Result<()> {
        rows.asset(self.asset);
        rows.integer(self.address_count)?;
        rows.sum(self.balance);
        rows.wide(self.least.map(|(balance, _)| balance));
        rows.hex_option(self.least.map(|(_, address)| address));
        Ok(())
    }
}
