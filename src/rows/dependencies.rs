//! What the rows of each table depend on, defined in this one place. Which senders are recovered,
//! what is requested from the node, what is a gap, and what `spyhop verify --repair` cannot request
//! again all follow from it.

use super::{
    CHAIN_TABLES, Selection, Table, address_flows, balances, gas_blocks, gas_flows,
    large_transfers, native_transfers, tokens, traces, transactions,
};

/// Data that rows depend on besides a block and its receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The sender of each transaction.
    Senders,
    /// Every transfer of ether within the block: from frames, or from logs since Amsterdam.
    Movements,
    /// The accounts whose ether the block changed.
    Parties,
    /// The call frames of every transaction, with their input and output.
    Frames,
    /// Ether of accounts after the block, as reported by the node.
    Balances,
    /// Token balances of holders after the block, as reported by the contracts.
    TokenBalances,
    /// Contracts' descriptions of themselves.
    Descriptions,
}

impl Need {
    /// Whether only a node with the block's state can provide it.
    pub(crate) fn is_of_state(self) -> bool {
        self != Self::Senders
    }
}

/// What a table's rows depend on.
pub(super) fn needs(table: &Table) -> &'static [Need] {
    use Need::{Balances, Descriptions, Frames, Movements, Parties, Senders, TokenBalances};
    match table.name {
        name if name == transactions::TABLE.name => &[Senders],
        name if name == native_transfers::TABLE.name => &[Senders, Movements],
        name if name == traces::TABLE.name => &[Frames],
        // The parties are the accounts whose balances are requested.
        name if name == balances::TABLE.name => &[Senders, Parties, Balances, TokenBalances],
        name if name == gas_blocks::TABLE.name => &[Senders],
        name if name == gas_flows::TABLE.name => &[Senders],
        name if name == address_flows::TABLE.name => &[Senders, Movements],
        // With both sides' balances afterwards.
        name if name == large_transfers::TABLE.name => {
            &[Senders, Movements, Balances, TokenBalances]
        }
        name if name == tokens::TABLE.name => &[Descriptions],
        _ => &[],
    }
}

/// The tables that need any of these.
pub(crate) fn needing(needed: impl Fn(Need) -> bool) -> Selection {
    let needing =
        CHAIN_TABLES.into_iter().filter(|table| needs(table).iter().any(|need| needed(*need)));
    Selection::of_known(needing.map(|table| table.name))
}

impl Selection {
    /// Whether any of them depends on this.
    fn needs(self, need: Need) -> bool {
        self.intersects(needing(|other| other == need))
    }

    /// Whether any of them needs traces.
    pub(crate) fn needs_traces(self) -> bool {
        [Need::Movements, Need::Parties, Need::Frames].into_iter().any(|need| self.needs(need))
    }

    /// Whether any of them needs data that only a node with the state can provide.
    pub(crate) fn needs_state(self) -> bool {
        self.intersects(needing(Need::is_of_state))
    }

    /// Whether any of them needs senders: who sent a transaction or paid for one.
    pub(super) fn needs_senders(self) -> bool {
        self.needs(Need::Senders)
    }
}
