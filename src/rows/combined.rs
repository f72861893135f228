//! The combined tables, each with its [`Entry`].

use super::combine::{Entries, Entry};
use super::{
    Table, address_flows::Flow, balances::Balance, gas_flows::GasFlow, large_transfers::Large,
    tokens::Token,
};

/// Work on the entries of one table, of any type.
pub(crate) trait Work {
    /// Its result.
    type Output;

    /// Does it.
    fn run<E: Entry>(self) -> Self::Output;
}

/// Does work on the entries of a table; `None` if the table's rows are in block order.
pub(crate) fn with_entries<W: Work>(table: &Table, work: W) -> Option<W::Output> {
    match table.name {
        name if name == Balance::TABLE.name => Some(work.run::<Balance>()),
        name if name == Flow::TABLE.name => Some(work.run::<Flow>()),
        name if name == GasFlow::TABLE.name => Some(work.run::<GasFlow>()),
        name if name == Large::TABLE.name => Some(work.run::<Large>()),
        name if name == Token::TABLE.name => Some(work.run::<Token>()),
        _ => None,
    }
}

/// Whether a table is combined.
pub(crate) fn is_combined(table: &Table) -> bool {
    struct Nothing;
    impl Work for Nothing {
        type Output = ();

        fn run<E: Entry>(self) {}
    }
    with_entries(table, Nothing).is_some()
}

/// No entries yet; `None` if the table's rows are in block order.
pub(super) fn none(table: &Table) -> Option<Box<dyn Entries>> {
    struct Empty;
    impl Work for Empty {
        type Output = Box<dyn Entries>;

        fn run<E: Entry>(self) -> Self::Output {
            Box::new(Vec::<E>::new())
        }
    }
    with_entries(table, Empty)
}
