//! What the rows of each table are made of: the one place that says so. Which senders are
//! recovered, what the node is asked for, what a gap is, and what `spyhop verify --repair` cannot
//! ask for again all follow from it.

use super::{
    CHAIN_TABLES, Selection, Table, address_flows, balances, gas_blocks, gas_flows,
    large_transfers, native_transfers, tokens, traces, transactions,
};

/// Something that rows are made of, beyond what a block and its receipts say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Who sent each transaction.
    Senders,
    /// Every transfer of ether within the block: of frames, or of logs from Amsterdam on.
    Movements,
    /// Whose ether the block changed.
    Parties,
    /// The call frames of every transaction, with their input and output.
    Frames,
    /// Ether of accounts after the block, as reported by the node.
    Balances,
    /// Tokens of holders after the block, in the contracts' words.
    TokenBalances,
    /// What contracts say of themselves.
    Descriptions,
}

impl Need {
    /// Whether only a node that has the block's state can tell.
    pub fn is_of_state(self) -> bool {
        self != Self::Senders
    }
}

/// What a table's rows are made of.
pub fn needs(table: &Table) -> &'static [Need] {
    use Need::{Balances, Descriptions, Frames, Movements, Parties, Senders, TokenBalances};
    match table.name {
        name if name == transactions::TABLE.name => &[Senders],
        name if name == native_transfers::TABLE.name => &[Senders, Movements],
        name if name == traces::TABLE.name => &[Frames],
        // The parties are those of whom the node is asked.
        name if name == balances::TABLE.name => &[Senders, Parties, Balances, TokenBalances],
        name if name == gas_blocks::TABLE.name => &[Senders],
        name if name == gas_flows::TABLE.name => &[Senders],
        name if name == address_flows::TABLE.name => &[Senders, Movements],
        // With what both sides had afterwards.
        name if name == large_transfers::TABLE.name => {
            &[Senders, Movements, Balances, TokenBalances]
        }
        name if name == tokens::TABLE.name => &[Descriptions],
        _ => &[],
    }
}

/// The tables that need any of these.
pub fn needing(needed: impl Fn(Need) -> bool) -> Selection {
    let needing =
        CHAIN_TABLES.into_iter().filter(|table| needs(table).iter().any(|need| needed(*need)));
    Selection::of_known(needing.map(|table| table.name))
}

impl Selection {
    /// Whether any row of them is made of this.
    pub fn needs(self, need: Need) -> bool {
        self.intersects(needing(|other| other == need))
    }

    /// Whether any of them needs to know what a block's transactions did.
    pub fn needs_traces(self) -> bool {
        [Need::Movements, Need::Parties, Need::Frames].into_iter().any(|need| self.needs(need))
    }

    /// Whether any of them needs to know something that only a node with the state can say.
    pub fn needs_state(self) -> bool {
        self.intersects(needing(Need::is_of_state))
    }

    /// Whether any row of them says who sent a transaction, what it paid, or had to pay for one:
    /// nothing else needs senders.
    pub fn needs_senders(self) -> bool {
        self.needs(Need::Senders)
    }
}
