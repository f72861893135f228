//! Transfers of ether: those that follow from the block, and those that only a trace shows.
//!
//! For a block that was not traced, all of them follow. For one that was, internal transfers are
//! taken as stored, at their positions; all that can be checked is that they belong to a
//! transaction of the block.

use super::cell::{Row, rows};
use super::fault::Fault;
use crate::prove::Proved;
use crate::rows::native_transfers::{NativeTransfer, TABLE, movements};
use crate::rows::{Cells, Options, State};
use arrow::array::RecordBatch;

/// Kinds of internal transfers, and of the genesis allocation.
const TOLD: [&str; 4] = ["call", "create", "selfdestruct", "genesis"];

/// Kinds that follow from the block.
const DERIVED: [&str; 5] =
    ["transaction", "withdrawal", "block_reward", "uncle_reward", "dao_fork"];

/// The transfers that a block must have, given its stored rows; `partial` means that some are
/// missing.
///
/// # Errors
/// If a row cannot be read, or rows are missing or superfluous.
pub(super) fn expected(
    block: &Proved,
    stored: &RecordBatch,
    partial: bool,
    options: Options,
) -> Result<Vec<NativeTransfer>, Fault> {
    let alone = movements(block, &State::missing("not requested"), options);
    let number = block.header.number;
    let any = |is: &dyn Fn(&Row) -> bool| rows(&TABLE, number, stored).any(|row| is(&row));
    // Only the DAO fork's transfers may be missing, or only those of one transaction.
    let framed = any(&|row| row.text("trace_address").is_some_and(|path| !path.is_empty()));
    let untraced = partial && options.issuance.dao_fork != Some(number) && !framed;
    // A call known only from a log has no frame.
    let logged =
        any(&|row| row.text("kind") == Some("call") && row.text("trace_address").is_none());
    if untraced || logged {
        return Ok(alone);
    }
    let stored =
        rows(&TABLE, number, stored).map(|row| read(block, &row)).collect::<Result<Vec<_>, _>>()?;
    let told =
        |movement: &NativeTransfer| TOLD.contains(&movement.kind) || is_unknown(block, movement);
    // A trace may show whether a transaction succeeded if the receipt does not.
    let row_of = |movement: &NativeTransfer| {
        stored
            .iter()
            .find(|other| (other.kind, other.transaction) == (movement.kind, movement.transaction))
    };
    let mut derived = Vec::new();
    for movement in alone.into_iter().filter(|movement| DERIVED.contains(&movement.kind)) {
        match row_of(&movement).filter(|_| movement.assumed) {
            Some(row) => {
                derived.push(NativeTransfer { assumed: partial && row.assumed, ..movement })
            }
            None if movement.assumed => {}
            None => derived.push(movement),
        }
    }
    let count = stored.iter().filter(|movement| !told(movement)).count();
    if count != derived.len() {
        return Err(Fault::new(
            TABLE.name,
            "rows that follow from the block",
            derived.len(),
            count,
        )
        .of_block(number));
    }
    let mut derived = derived.drain(..);
    Ok(stored
        .iter()
        .map(|movement| match told(movement) {
            true => NativeTransfer { assumed: false, ..movement.clone() },
            false => derived.next().expect("they were counted"),
        })
        .collect())
}

/// Whether it is the transfer of a transaction of unknown type.
fn is_unknown(block: &Proved, movement: &NativeTransfer) -> bool {
    movement.kind == "transaction"
        && movement.transaction.is_some_and(|index| block.transactions[index].fields.is_none())
}

fn read(block: &Proved, row: &Row) -> Result<NativeTransfer, Fault> {
    let kind = TOLD.into_iter().chain(DERIVED).find(|kind| row.text("kind") == Some(*kind));
    Ok(NativeTransfer {
        kind: kind.ok_or_else(|| row.fault("kind", "a known kind"))?,
        transaction: transaction(block, row)?,
        trace_address: row.text("trace_address").map(str::to_owned),
        from: row.read("from_address", Cells::address)?,
        to: row.read("to_address", Cells::address)?,
        value: row.some("value", Cells::wide)?,
        assumed: row.read("assumed", Cells::integer)? == Some(1),
    })
}

/// The transaction that a row belongs to: by index, or by hash if they do not agree.
fn transaction(block: &Proved, row: &Row) -> Result<Option<usize>, Fault> {
    let index = row
        .read("transaction_index", Cells::integer)?
        .and_then(|index| usize::try_from(index).ok());
    let Some(hash) = row.text("transaction_hash") else {
        return match row.text("kind") {
            Some("transaction" | "call" | "create" | "selfdestruct") => {
                Err(row.fault("transaction_hash", "that of a transaction in the block"))
            }
            _ => Ok(None),
        };
    };
    let is_named = |index: &usize| {
        block.transactions.get(*index).is_some_and(|found| found.hash.to_string() == hash)
    };
    let named = index.filter(is_named).or_else(|| (0..block.transactions.len()).find(is_named));
    let named = named.or(index.filter(|index| *index < block.transactions.len()));
    named
        .map(Some)
        .ok_or_else(|| row.fault("transaction_hash", "that of a transaction in the block"))
}
