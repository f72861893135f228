//! One address: when it was seen, what it holds, what it moved, and with whom.

use super::columns::pick;
use super::parameters::Kind;
use super::reach::{Before, Span, rows};
use super::tokens::described;
use super::{NEWEST_FIRST, Panel, Parameter, Snapshot, Values};
use crate::answers;
use crate::rows::Kind::{Integer, Long, Text, Time, Wide};
use crate::rows::{Column, balances, column, tokens};
use crate::sql::literal;
use anyhow::Result;

const ADDRESS_ONLY: Parameter = Parameter::required("address", Kind::Address);
const FITS_NOT: &str = "The exact value if it has more than 38 digits, else null.";

/// `address`.
pub(super) const ADDRESS: Panel = Panel {
    name: "address",
    title: "Address",
    comment: "One row: what is stored about an address.",
    parameters: &[ADDRESS_ONLY],
    columns: &[
        column("address", Text, "The address."),
        column("label", Text, "Its name, if it has one."),
        column("first_block", Integer, "The first block in which it moved something, or null."),
        column("last_block", Integer, "The last."),
        column("ether_in", Wide, "Wei received."),
        column("ether_in_text", Text, FITS_NOT),
        column("ether_out", Wide, "Wei sent, without fees."),
        column("ether_out_text", Text, FITS_NOT),
        column("fees", Wide, "Wei paid in fees."),
        column("fees_text", Text, FITS_NOT),
        column("transaction_count", Integer, "Transactions sent."),
        column("failed_count", Integer, "Those that failed."),
        column("gas_used", Long, "Gas they used."),
        column("token_count", Integer, "Tokens it moved."),
        column("tokens_in", Integer, "Token transfers in."),
        column("tokens_out", Integer, "Token transfers out."),
        column("first_timestamp", Time, "When the first block was made, UTC."),
        column("last_timestamp", Time, "When the last was made."),
    ],
    sql: address,
    whole: None,
};

fn address(values: &Values, _: &Snapshot<'_>) -> Result<Vec<String>> {
    // The condition with IN reaches the files, so that few rows are read; that of a join does not.
    Ok(vec![format!(
        "WITH summary AS MATERIALIZED (FROM address_summary({})),
    ends AS MATERIALIZED (SELECT number, timestamp FROM blocks
        WHERE number IN (SELECT unnest([first_block, last_block]) FROM summary))
SELECT *,
    (SELECT timestamp FROM ends WHERE number = first_block) AS first_timestamp,
    (SELECT timestamp FROM ends WHERE number = last_block) AS last_timestamp
FROM summary",
        literal(values.text("address"))
    )])
}

/// `address_balances`.
pub(super) const ADDRESS_BALANCES: Panel = Panel {
    name: "address_balances",
    title: "Balances",
    comment: "One row per asset: the newest stored balance of an address; ether first.",
    parameters: &[ADDRESS_ONLY],
    columns: &pick(
        &[balances::TABLE.columns, tokens::TABLE.columns],
        ["asset", "symbol", "decimals", "balance", "balance_text", "block_number"],
    ),
    sql: address_balances,
    whole: None,
};

fn address_balances(values: &Values, _: &Snapshot<'_>) -> Result<Vec<String>> {
    let condition = format!("address = {}", literal(values.text("address")));
    let columns = "asset, balance, balance_text, block_number";
    Ok(vec![format!(
        "WITH held AS (SELECT asset,
        arg_max({{narrow: balance, wide: balance_text}}, block_number) AS newest,
        max(block_number) AS block_number
    FROM ({balances})
    GROUP BY asset)
SELECT asset, symbol, decimals, newest.narrow AS balance, newest.wide AS balance_text, block_number
FROM held
LEFT JOIN (SELECT asset, symbol, decimals FROM ({described})) USING (asset)
ORDER BY asset <> 'ETH', block_number DESC, asset
LIMIT {limit}",
        balances = rows("balances", columns, "true", &condition),
        described = described("asset IN (SELECT asset FROM held WHERE asset <> 'ETH')"),
        limit = values.limit(),
    )])
}

const MADE: Column =
    column("block_timestamp", Time, "When the block was made, UTC; null if blocks are not stored.");

/// `address_history`.
pub(super) const ADDRESS_HISTORY: Panel = Panel {
    name: "address_history",
    title: "Balance over time",
    comment: "One row per stored balance of an address, newest first.",
    parameters: &[ADDRESS_ONLY, Parameter::ASSET, Parameter::limit("1000")],
    columns: &pick(
        &[balances::TABLE.columns, &[MADE]],
        ["block_number", "block_timestamp", "balance", "balance_text"],
    ),
    sql: address_history,
    whole: None,
};

fn address_history(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let condition = format!(
        "address = {} AND asset = {}",
        literal(values.text("address")),
        literal(values.text("asset"))
    );
    let newest = format!(
        "FROM ({}) ORDER BY block_number DESC LIMIT {}",
        rows("balances", "block_number, balance, balance_text", "true", &condition),
        values.limit()
    );
    let lowest = snapshot.integer(&format!("SELECT min(block_number) FROM ({newest})"))?;
    let lowest = lowest.unwrap_or(u64::from(u32::MAX));
    let times = rows(
        "blocks",
        "number, timestamp",
        &format!("last >= {lowest}"),
        &format!("number >= {lowest} AND number IN (SELECT block_number FROM held)"),
    );
    Ok(vec![format!(
        "WITH held AS ({newest})
SELECT block_number, timestamp AS block_timestamp, balance, balance_text
FROM held
LEFT JOIN ({times}) ON number = block_number
ORDER BY block_number DESC"
    )])
}

/// `address_movements`.
pub(super) const ADDRESS_MOVEMENTS: Panel = Panel {
    name: "address_movements",
    title: "Transfers",
    comment: "One row per transfer from or to an address, newest first.",
    parameters: &[
        ADDRESS_ONLY,
        Parameter::optional("asset", Kind::Asset),
        Parameter::limit("100"),
        Parameter::BEFORE,
        Parameter::BEFORE_BLOCK,
    ],
    columns: &pick(
        &[answers::MOVEMENTS.columns, answers::LARGE_TRANSFERS.columns, tokens::TABLE.columns],
        [
            "block_number",
            "block_timestamp",
            "transaction_hash",
            "asset",
            "symbol",
            "decimals",
            "kind",
            "transfer_index",
            "batch_index",
            "from_address",
            "from_label",
            "to_address",
            "to_label",
            "amount",
            "amount_text",
        ],
    ),
    sql: address_movements,
    whole: None,
};

fn address_movements(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let (asset, limit) = (values.get("asset"), values.limit());
    let columns = "block_number, block_timestamp, transaction_hash, asset, kind, transfer_index, \
                   batch_index, from_address, to_address, amount, amount_text";
    let moved = moved(values, asset, Before::of(values), limit, columns, snapshot)?;
    Ok(vec![format!(
        "WITH moved AS (FROM ({moved})
    ORDER BY {NEWEST_FIRST}
    LIMIT {limit})
SELECT block_number, block_timestamp, transaction_hash, asset, symbol, decimals, kind,
    transfer_index, batch_index, from_address, f.name AS from_label, to_address,
    t.name AS to_label, amount, amount_text
FROM moved
LEFT JOIN (SELECT asset, symbol, decimals FROM ({described})) USING (asset)
LEFT JOIN labels AS f ON f.address = from_address LEFT JOIN labels AS t ON t.address = to_address
ORDER BY {NEWEST_FIRST}",
        described = described("asset IN (SELECT asset FROM moved WHERE asset <> 'ETH')"),
    )])
}

/// At least so many of an address's newest movements, and more of the oldest block.
fn moved(
    values: &Values,
    asset: Option<&str>,
    before: Before,
    wanted: u64,
    columns: &str,
    snapshot: &Snapshot<'_>,
) -> Result<String> {
    let address = values.text("address");
    let span = Span::of_address(address, asset, before, wanted, snapshot)?;
    let files = span.map_or("true".to_owned(), Span::files);
    let mut condition = span.map_or("true".to_owned(), Span::rows);
    if let Some(asset) = asset {
        condition += &format!(" AND asset = {}", literal(asset));
    }
    condition += &format!(" AND {}", before.rows());
    // The files have a Bloom filter for each side, which an OR would not use.
    let address = literal(address);
    let [given, taken] = [
        format!("{condition} AND from_address = {address}"),
        format!(
            "{condition} AND to_address = {address} AND from_address IS DISTINCT FROM {address}"
        ),
    ]
    .map(|condition| rows("movements", columns, &files, &condition));
    Ok(format!("{given}\n    UNION ALL {taken}"))
}

/// `address_counterparties`.
pub(super) const ADDRESS_COUNTERPARTIES: Panel = Panel {
    name: "address_counterparties",
    title: "Counterparties",
    comment: "One row per address that an address exchanged an asset with in its newest 3,000 \
              transfers of it, largest amount in both directions first.",
    parameters: &[ADDRESS_ONLY, Parameter::ASSET, Parameter::limit("20")],
    columns: &[
        column("counterparty", Text, "The other side; null if ether was created or destroyed."),
        column("label", Text, "Its name, if it has one."),
        column("count_in", Integer, "Transfers from it."),
        column("amount_in", Text, "Their amount, in wei or in the token's smallest unit, exact."),
        column("count_out", Integer, "Transfers to it."),
        column("amount_out", Text, "Their amount."),
        column("first_block", Integer, "The first block with one of them."),
        column("last_block", Integer, "The last."),
    ],
    sql: address_counterparties,
    whole: None,
};

/// How many transfers are looked at.
const COUNTERPARTY_MOVEMENTS: u64 = 3_000;

fn address_counterparties(values: &Values, snapshot: &Snapshot<'_>) -> Result<Vec<String>> {
    let columns =
        "block_number, transfer_index, batch_index, from_address, to_address, amount, amount_text";
    let asset = Some(values.text("asset"));
    let moved = moved(values, asset, Before::default(), COUNTERPARTY_MOVEMENTS, columns, snapshot)?;
    let address = literal(values.text("address"));
    let sum = |side: &str| {
        format!(
            "coalesce(exact_sum(CASE WHEN {side} = {address} THEN amount END, \
             CASE WHEN {side} = {address} THEN amount_text END), 0::BIGNUM)"
        )
    };
    Ok(vec![format!(
        "SELECT counterparty, labels.name AS label, count_in, amount_in::VARCHAR AS amount_in,
    count_out, amount_out::VARCHAR AS amount_out, first_block, last_block
FROM (SELECT
        CASE WHEN from_address = {address} THEN to_address ELSE from_address END AS counterparty,
        count(*) FILTER (to_address = {address}) AS count_in, {amount_in} AS amount_in,
        count(*) FILTER (from_address = {address}) AS count_out, {amount_out} AS amount_out,
        min(block_number) AS first_block, max(block_number) AS last_block
    FROM (FROM ({moved})
        ORDER BY block_number DESC, transfer_index DESC, batch_index DESC
        LIMIT {COUNTERPARTY_MOVEMENTS})
    GROUP BY counterparty)
LEFT JOIN labels ON labels.address = counterparty
ORDER BY amount_in + amount_out DESC, count_in + count_out DESC, counterparty
LIMIT {limit}",
        amount_in = sum("to_address"),
        amount_out = sum("from_address"),
        limit = values.limit(),
    )])
}
