//! A selection of chain tables.

use super::{CHAIN_TABLES, Table, traces};

/// A selection of [`CHAIN_TABLES`]; by default all but traces, which are large and rarely needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection(u32);

impl Default for Selection {
    fn default() -> Self {
        Self::ALL.without(Self::of_known([traces::TABLE.name]))
    }
}

impl Selection {
    /// Every chain table.
    pub const ALL: Self = Self((1 << CHAIN_TABLES.len()) - 1);

    /// The tables of these names; an unknown name is returned.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        names.into_iter().try_fold(Self(0), |selection, name| {
            let index = CHAIN_TABLES.iter().position(|table| table.name == name).ok_or(name)?;
            Ok(Self(selection.0 | 1 << index))
        })
    }

    /// The tables of these names, ignoring unknown ones.
    pub(crate) fn of_known<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names.into_iter().filter_map(|name| Self::parse([name]).ok()).fold(Self(0), Self::with)
    }

    /// The tables, in the order they are written.
    pub fn tables(self) -> impl Iterator<Item = &'static Table> {
        CHAIN_TABLES
            .into_iter()
            .enumerate()
            .filter(move |(index, _)| self.0 & (1 << index) != 0)
            .map(|(_, table)| table)
    }

    /// Whether a table is selected.
    pub(crate) fn has(self, table: &Table) -> bool {
        self.position(table).is_some()
    }

    /// The position of a table among the selected ones, from 0.
    pub(crate) fn position(self, table: &Table) -> Option<usize> {
        self.tables().position(|chosen| chosen.name == table.name)
    }

    /// Whether it includes all of `other`.
    pub fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The union.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The difference.
    #[must_use]
    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it is empty.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}
