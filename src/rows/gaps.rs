//! Which rows of a table are missing, and why: what a node did not say of a block.

use super::dependencies::{Need, needs};
use super::{
    Options, State, Table, address_flows, balances, large_transfers, native_transfers, tokens,
};
use crate::prove::Proved;
use serde::{Deserialize, Serialize};

impl State {
    /// What a block's rows of this table lack, and why; none if they lack nothing.
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

    /// Why something that rows are made of is not known of a block, or not all of it; none if it
    /// is.
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
                    "so many holders of tokens took part that some were not asked for".to_owned(),
                ),
            },
            Need::Descriptions => self.tokens.as_ref().err().cloned(),
        }
    }
}

/// What rows lack. The graver comes first: of two that a block lacks it is the one that is said.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lacks {
    /// The rows themselves.
    #[default]
    Rows,
    /// What ether moved within transactions: of `balances`, rows of those it went from and to.
    Movements,
    /// What both sides of a movement had afterwards.
    Balances,
    /// What some holders of tokens had afterwards; of ether nothing is missing.
    TokenBalances,
}

/// A run of blocks whose rows of a table are not all there.
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
    /// What the rows lack. Older volumes do not say that of a movement only what is within
    /// transactions is missing.
    pub fn lacks(&self) -> Lacks {
        let of_movements =
            [&native_transfers::TABLE, &address_flows::TABLE, &large_transfers::TABLE];
        match self.lacks {
            Lacks::Rows if of_movements.into_iter().any(|table| table.name == self.table) => {
                Lacks::Movements
            }
            lacks => lacks,
        }
    }

    /// Those of a table, ascending. In older volumes `balances` does not say where it was not known
    /// whose to ask for: that is where `native_transfers` lacks movements.
    pub fn of(gaps: &[Self], table: &Table) -> Vec<Self> {
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

    /// Adds to an ascending list what of a gap is not in it.
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

    /// Cuts off what of a list lies outside of these blocks.
    pub fn trim(gaps: &mut Vec<Self>, first: u64, last: u64) {
        gaps.retain_mut(|gap| {
            (gap.first, gap.last) = (gap.first.max(first), gap.last.min(last));
            gap.first <= gap.last
        });
    }

    /// Appends a gap to a list that grows upwards: to the run of its table where it continues that.
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
