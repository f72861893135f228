//! Which rows of a table are missing, and why: data that a node did not provide.

use super::dependencies::{Need, needs};
use super::{
    Options, State, Table, address_flows, balances, large_transfers, native_transfers, tokens,
};
use crate::prove::Proved;
use serde::{Deserialize, Serialize};

impl State {
    /// What a block's rows of this table lack, and why; none if they are complete.
    pub(super) fn gap(
        &self,
        table: &Table,
        block: &Proved,
        options: Options,
    ) -> Option<(Lacks, String)> {
        let lacking = needs(table).iter().filter_map(|need| {
            let lacks = match need {
                Need::Movements | Need::Parties => Lacks::Movements,
                Need::Balances if table.name == large_transfers::TABLE.name => Lacks::Balances,
                Need::TokenBalances => Lacks::TokenBalances,
                _ => Lacks::Rows,
            };
            Some((lacks, self.lacking(*need, block, options)?))
        });
        lacking.min_by_key(|(lacks, _)| *lacks)
    }

    /// Why data that rows depend on is missing or incomplete for a block; none if it is not.
    fn lacking(&self, need: Need, block: &Proved, options: Options) -> Option<String> {
        match need {
            Need::Senders => None,
            Need::Movements => native_transfers::gap(block, self, options),
            Need::Parties if self.parties.is_some() => None,
            Need::Parties => native_transfers::untraced(block, self),
            Need::Frames => {
                self.frames.as_ref().err().filter(|_| !block.transactions.is_empty()).cloned()
            }
            Need::Balances => self.balances.as_ref().err().cloned(),
            Need::TokenBalances => match tokens::left_out(block, options) {
                0 => self.left_out.clone(),
                _ => Some(
                    "there were more token holders than are requested for one block".to_owned(),
                ),
            },
            Need::Descriptions => self.tokens.as_ref().err().cloned(),
        }
    }
}

/// What rows lack. The most serious comes first: if a block lacks several, only that one is
/// reported.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lacks {
    /// The rows themselves.
    #[default]
    Rows,
    /// Internal transfers of ether; in `balances`, rows of their parties.
    Movements,
    /// Both sides' balances after a transfer.
    Balances,
    /// Token balances of some holders; ether is complete.
    TokenBalances,
}

/// A run of blocks whose rows of a table are not complete.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The table's name.
    pub table: String,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// Why.
    pub reason: String,
    /// What the rows lack.
    #[serde(default)]
    pub lacks: Lacks,
}

impl Gap {
    /// What the rows lack. Older volumes do not record that only internal transfers are missing.
    pub(crate) fn lacks(&self) -> Lacks {
        let of_movements =
            [&native_transfers::TABLE, &address_flows::TABLE, &large_transfers::TABLE];
        match self.lacks {
            Lacks::Rows if of_movements.into_iter().any(|table| table.name == self.table) => {
                Lacks::Movements
            }
            lacks => lacks,
        }
    }

    /// The gaps of a table, ascending. In older volumes `balances` does not record gaps in its
    /// accounts: those are the gaps of `native_transfers`.
    pub(crate) fn of(gaps: &[Self], table: &Table) -> Vec<Self> {
        let mut found: Vec<_> =
            gaps.iter().filter(|gap| gap.table == table.name).cloned().collect();
        if table.name == balances::TABLE.name {
            let of_movements = gaps.iter().filter(|gap| gap.table == native_transfers::TABLE.name);
            for gap in of_movements.filter(|gap| gap.lacks == Lacks::Rows) {
                Self::add(&mut found, gap);
            }
        }
        found
    }

    /// Adds the parts of a gap that are not yet in an ascending list.
    fn add(found: &mut Vec<Self>, gap: &Self) {
        let mut next = gap.first;
        for held in found
            .clone()
            .into_iter()
            .filter(|held| held.last >= gap.first && held.first <= gap.last)
        {
            if next < held.first {
                let last = held.first - 1;
                found.push(Self {
                    table: held.table,
                    first: next,
                    last,
                    lacks: gap.lacks(),
                    ..gap.clone()
                });
            }
            next = held.last + 1;
        }
        if next <= gap.last {
            let table = balances::TABLE.name.to_owned();
            found.push(Self { table, first: next, lacks: gap.lacks(), ..gap.clone() });
        }
        found.sort_unstable_by_key(|gap| gap.first);
    }

    /// Clips a list to these blocks.
    pub fn trim(gaps: &mut Vec<Self>, first: u64, last: u64) {
        gaps.retain_mut(|gap| {
            (gap.first, gap.last) = (gap.first.max(first), gap.last.min(last));
            gap.first <= gap.last
        });
    }

    /// Appends a gap to an ascending list, extending the table's last gap if it continues it.
    pub fn push(gaps: &mut Vec<Self>, gap: Self) {
        let run = gaps.iter_mut().rev().find(|run| run.table == gap.table);
        match run.filter(|run| {
            run.last + 1 == gap.first && run.reason == gap.reason && run.lacks == gap.lacks
        }) {
            Some(run) => run.last = gap.last,
            None => gaps.push(gap),
        }
    }
}
