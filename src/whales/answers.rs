//! The SQL of what answers: macros, and views over the tables.
//!
//! Nothing here grows with the history: what is heavy was done when a range was sealed or merged, and the views combine what the
//! ranges and the tail hold. So a reorganisation undoes nothing, and the order in which ranges come does not matter.
//!
//! A macro's body is looked up where it is called, so whoever attaches the published file under a name says `USE` first.

use crate::rows::answers::{
    EXCHANGE_FLOWS, GAS_DAILY, GAS_GUZZLERS, GAS_HOURLY, GAS_SPENDERS, LARGE_TRANSFERS, MOVEMENTS, SUPPLY,
};
use crate::rows::{Table, address_flows, blocks, gas_blocks, gas_flows, large_transfers, tokens, transactions};

/// The zero address: tokens come from it and go to it.
const ZERO: &str = "0x0000000000000000000000000000000000000000";

/// The body of a view in `main`; `None` where it is made of its ranges and its tail as they lie, or is made anew for every block.
pub fn body(table: &Table) -> Option<String> {
    Some(match table.name {
        name if name == address_flows::TABLE.name => address_flows(),
        name if name == gas_flows::TABLE.name => gas_flows(),
        name if name == tokens::TABLE.name => tokens(),
        name if name == MOVEMENTS.name => all_movements(),
        name if name == LARGE_TRANSFERS.name => large_transfers(),
        name if name == EXCHANGE_FLOWS.name => exchange_flows(),
        name if name == SUPPLY.name => supply_of(true, true),
        name if name == GAS_HOURLY.name => gas_by("hour"),
        name if name == GAS_DAILY.name => gas_by("day"),
        name if name == GAS_SPENDERS.name => {
            gas_rank("sender", "fees_text IS NULL, length(fees_text) DESC, fees_text DESC, fees DESC")
        }
        name if name == GAS_GUZZLERS.name => gas_rank("contract", "gas_used DESC"),
        _ => return None,
    })
}

/// A table's rows in the ranges and in the tail.
fn both(table: &Table) -> String {
    let (name, columns) = (table.name, table.names());
    format!("SELECT {columns} FROM sealed.{name} UNION ALL SELECT {columns} FROM tail.{name}")
}

/// The exact sum of an amount in two columns, as a `BIGNUM`. These are slow: so what is below 10^27, nearly all, is summed as it
/// is, which is safe for 10^11 rows.
pub(super) fn sum(value: &str) -> String {
    let small = format!("abs({value}) < 1{}", "0".repeat(27));
    format!(
        "(coalesce(sum(CASE WHEN {small} THEN {value} END), 0)::HUGEINT::BIGNUM + coalesce(sum(CASE WHEN {small} THEN NULL \
         WHEN {value} IS NOT NULL THEN {value}::HUGEINT::BIGNUM ELSE {value}_text::BIGNUM END), 0::BIGNUM))"
    )
}

/// A `BIGNUM` as the two columns of an amount.
pub(super) fn split(bignum: &str, name: &str) -> String {
    let narrow = format!("try_cast({bignum}::VARCHAR AS DECIMAL(38,0))");
    format!("{narrow} AS {name}, CASE WHEN {narrow} IS NULL THEN {bignum}::VARCHAR END AS {name}_text")
}

/// Every movement, out of the chain's own tables: `sealed.movements` with the range of its file, and `tail.movements`.
pub fn movements() -> String {
    [("sealed", ", first, last"), ("tail", "")]
        .map(|(schema, range)| {
            format!("CREATE VIEW {schema}.movements AS {};\n", movements_of(schema, range).join(" UNION ALL "))
        })
        .concat()
}

/// The movements of both.
fn all_movements() -> String {
    union([movements_of("sealed", ""), movements_of("tail", "")].concat())
}

/// All rows of these queries. As DuckDB 2.0 writes a union of more than two, DuckDB 1.4 loses rows of it: each is a query within the next.
fn union(queries: impl IntoIterator<Item = String>) -> String {
    let mut queries = queries.into_iter();
    let two = queries.by_ref().take(2).collect::<Vec<_>>().join(" UNION ALL ");
    queries.fold(two, |before, query| format!("SELECT * FROM ({before}) UNION ALL {query}"))
}

fn movements_of(schema: &str, range: &str) -> [String; 2] {
    [
        format!(
            "SELECT 'ETH' AS asset, kind, block_number, block_timestamp, transaction_hash, transfer_index,
                0::BIGINT AS batch_index, from_address, to_address, value AS amount, value_text AS amount_text{range}
            FROM {schema}.native_transfers"
        ),
        format!(
            "SELECT token_address, standard, block_number, block_timestamp, transaction_hash, log_index, batch_index,
                from_address, to_address, CASE WHEN standard <> 'unindexed' THEN value END,
                CASE WHEN standard <> 'unindexed' THEN value_text END{range}
            FROM {schema}.token_transfers"
        ),
    ]
}

fn address_flows() -> String {
    format!(
        "SELECT asset, address, day, {amount_in}, {amount_out}, count_in, count_out, first_block, last_block FROM (
            SELECT asset, address, day, {sum_in} AS amount_in, {sum_out} AS amount_out, sum(count_in)::BIGINT AS count_in,
                sum(count_out)::BIGINT AS count_out, min(first_block) AS first_block, max(last_block) AS last_block
            FROM ({both}) GROUP BY asset, address, day)",
        amount_in = split("amount_in", "amount_in"),
        amount_out = split("amount_out", "amount_out"),
        sum_in = sum("amount_in"),
        sum_out = sum("amount_out"),
        both = both(&address_flows::TABLE),
    )
}

fn gas_flows() -> String {
    format!(
        "SELECT day, role, address, transaction_count, failed_count, gas_used, {fees}, first_block, last_block FROM (
            SELECT day, role, address, sum(transaction_count)::BIGINT AS transaction_count,
                sum(failed_count)::BIGINT AS failed_count, sum(gas_used) AS gas_used, {sum} AS fees,
                min(first_block) AS first_block, max(last_block) AS last_block
            FROM ({both}) GROUP BY day, role, address)",
        fees = split("fees", "fees"),
        sum = sum("fees"),
        both = both(&gas_flows::TABLE),
    )
}

/// What a contract said first, of the times that it said most, and the first block of all in which it deviates.
fn tokens() -> String {
    format!(
        "SELECT asset, symbol, name, decimals, standard, block_number, min(deviates_block) OVER (PARTITION BY asset) AS deviates_block
        FROM ({both}) QUALIFY row_number() OVER (PARTITION BY asset
            ORDER BY (symbol IS NULL)::INTEGER + (name IS NULL)::INTEGER + (decimals IS NULL)::INTEGER, block_number) = 1",
        both = both(&tokens::TABLE),
    )
}

/// The ranges hold the largest of each of them: of those together the largest are taken, in the order that `Large` has.
fn large_transfers() -> String {
    format!(
        "SELECT asset, day, rank, amount, amount_text, kind, from_address, f.name AS from_label, from_balance, from_balance_text,
            to_address, t.name AS to_label, to_balance, to_balance_text, block_number, block_timestamp, transaction_hash, transfer_index, batch_index
        FROM (SELECT *, row_number() OVER (PARTITION BY asset, day ORDER BY amount_text IS NULL, length(amount_text) DESC,
                amount_text DESC, amount DESC, block_number, kind, transfer_index, batch_index) AS rank FROM ({both})) AS large
        LEFT JOIN main.labels AS f ON f.address = from_address LEFT JOIN main.labels AS t ON t.address = to_address
        WHERE rank <= 100 OR (asset = 'ETH' AND (amount >= 100000000000000000000 OR amount_text IS NOT NULL))",
        both = both(&large_transfers::TABLE),
    )
}

fn exchange_flows() -> String {
    format!(
        "SELECT day, category, asset, {amount_in}, {amount_out}, {amount_net}, address_count FROM (
            SELECT day, category, asset, {sum_in} AS amount_in, {sum_out} AS amount_out,
                count(DISTINCT address) AS address_count
            FROM main.labels JOIN ({both}) USING (address) WHERE category IS NOT NULL GROUP BY day, category, asset)",
        amount_in = split("amount_in", "amount_in"),
        amount_out = split("amount_out", "amount_out"),
        amount_net = split("(amount_in - amount_out)", "amount_net"),
        sum_in = sum("amount_in"),
        sum_out = sum("amount_out"),
        both = both(&address_flows::TABLE),
    )
}

/// Of ether, what moved cancels out, and what is left over all addresses was made. Tokens that are counted only, as their ids are
/// no amounts, have neither sum and are left out.
pub(super) fn supply_of(ether: bool, tokens: bool) -> String {
    let both = both(&address_flows::TABLE);
    let (sum_in, sum_out) = (sum("amount_in"), sum("amount_out"));
    let of_ether = format!(
        "SELECT 'ETH' AS asset, (SELECT {sum_in} - {sum_out} FROM ({both}) WHERE asset = 'ETH') AS made,
            (SELECT {} + {} FROM main.gas_blocks) AS burnt",
        sum("burnt"),
        sum("blob_burnt"),
    );
    let of_tokens = format!(
        "SELECT asset, {sum_out} AS made, {sum_in} AS burnt FROM ({both}) WHERE address = '{ZERO}' AND asset <> 'ETH' GROUP BY asset"
    );
    let parts =
        [(ether, of_ether), (tokens, of_tokens)].into_iter().filter_map(|(wanted, part)| wanted.then_some(part));
    format!(
        "SELECT asset, {made}, {burnt}, {supply} FROM (
            SELECT * EXCLUDE (whole, traced), CASE WHEN made >= burnt AND whole AND (asset <> 'ETH' OR traced) THEN made - burnt END AS supply
            FROM ({parts}),
                (SELECT min(first_block) = 0 AND bool_and(status IN ('held', 'partial')) FILTER (table_name = '{flows}') AS whole,
                    bool_and(status = 'held') AS traced
                FROM main.coverage WHERE table_name IN ('{flows}', '{fees}') AND first_block <= (SELECT max(number) FROM main.blocks))
            WHERE made > 0::BIGNUM OR burnt > 0::BIGNUM)",
        parts = parts.collect::<Vec<_>>().join(" UNION ALL "),
        made = split("made", "made"),
        burnt = split("burnt", "burnt"),
        supply = split("supply", "supply"),
        flows = address_flows::TABLE.name,
        fees = gas_blocks::TABLE.name,
    )
}

/// Hours or days that are whole: their blocks have no gap, and both neighbours are held, or the chain begins there.
fn gas_by(unit: &str) -> String {
    let sums = ["burnt", "tips", "failed_fees", "blob_burnt"].map(|name| format!("{} AS {name}", sum(name))).join(", ");
    let splits = |name| split(name, name);
    let sum_of_all = |value: &str| format!("CASE WHEN count({value}) = count(*) THEN sum({value}) END");
    // Null where one does not fit, and never the quantile of the rest.
    let of =
        |value: &str, what: &str| format!("CASE WHEN count({value}_text) = 0 THEN {} END", what.replace('?', value));
    format!(
        "SELECT {unit}, first_block, last_block, block_count, transaction_count, failed_count,
            gas_limit::DECIMAL(38,0) AS gas_limit, gas_used::DECIMAL(38,0) AS gas_used,
            try_cast((gas_used * 10000 // greatest(gas_limit, 1)) * 0.01 AS DECIMAL(5,2)) AS utilisation,
            base_fee_min, base_fee_50, base_fee_max, tip_10, tip_50, tip_90, {burnt}, {tips}, {failed_fees}, blob_count, {blob_burnt}
        FROM (SELECT *, lag(last_block) OVER (ORDER BY {unit}) AS last_before, lead(first_block) OVER (ORDER BY {unit}) AS first_after
            FROM (SELECT date_trunc('{unit}', block_timestamp)::TIMESTAMP AS {unit}, min(block_number) AS first_block,
                max(block_number) AS last_block, count(*) AS block_count, sum(transaction_count)::BIGINT AS transaction_count,
                sum(failed_count)::BIGINT AS failed_count, {gas_limit} AS gas_limit, {gas_used} AS gas_used,
                {base_fee_min} AS base_fee_min, {base_fee_50} AS base_fee_50, {base_fee_max} AS base_fee_max,
                {tip_10} AS tip_10, {tip_50} AS tip_50, {tip_90} AS tip_90, sum(blob_count)::BIGINT AS blob_count, {sums}
                FROM main.gas_blocks GROUP BY ALL))
        WHERE block_count = last_block - first_block + 1 AND (first_block = 0 OR last_before = first_block - 1)
            AND first_after = last_block + 1",
        gas_limit = sum_of_all("gas_limit"),
        gas_used = sum_of_all("gas_used"),
        base_fee_min = of("base_fee_per_gas", "min(?)"),
        base_fee_50 = of("base_fee_per_gas", "quantile_disc(?, 0.5)"),
        base_fee_max = of("base_fee_per_gas", "max(?)"),
        tip_10 = of("tip_10", "quantile_disc(?, 0.5)"),
        tip_50 = of("tip_50", "quantile_disc(?, 0.5)"),
        tip_90 = of("tip_90", "quantile_disc(?, 0.5)"),
        burnt = splits("burnt"),
        tips = splits("tips"),
        failed_fees = splits("failed_fees"),
        blob_burnt = splits("blob_burnt"),
    )
}

/// The first 100 of each day in one role.
fn gas_rank(role: &str, order: &str) -> String {
    format!(
        "SELECT day, rank, address, name AS label, transaction_count, failed_count, gas_used, fees, fees_text, last_block
        FROM (SELECT *, row_number() OVER (PARTITION BY day ORDER BY {order}, address) AS rank
            FROM main.gas_flows WHERE role = '{role}')
        LEFT JOIN main.labels USING (address) WHERE rank <= 100"
    )
}

/// The macros of the published file, each a statement.
pub fn macros() -> [String; 4] {
    [exact_sum(), tx(), block(), address_summary()]
}

/// Amounts may have 78 digits, and their sums more: `BIGNUM` has no limit, in every DuckDB from 1.4 on.
fn exact_sum() -> String {
    let sum = sum("value");
    let narrow = sum.replace("ELSE value_text::BIGNUM ", "");
    format!(
        "CREATE OR REPLACE MACRO main.exact_sum(value) AS CASE WHEN count(value) > 0 THEN {narrow} END,
            (value, value_text) AS CASE WHEN count(value) + count(value_text) > 0 THEN {sum} END;"
    )
}

/// `tx(hash)`: the files' Bloom filters say which to open; `tx(hash, in_block := n)` opens one.
fn tx() -> String {
    lookup("tx(wanted, in_block := NULL)", &transactions::TABLE, "hash = lower(wanted)", "in_block")
}

/// `block(n)`: opens one file.
fn block() -> String {
    lookup("block(wanted)", &blocks::TABLE, "number = wanted", "wanted")
}

/// A macro that finds rows by `condition`, and opens the file only of the range that holds block `height`, if it is known.
fn lookup(head: &str, table: &Table, condition: &str, height: &str) -> String {
    let (name, columns) = (table.name, table.names());
    format!(
        "CREATE OR REPLACE MACRO main.{head} AS TABLE
            SELECT {columns} FROM sealed.{name} WHERE {condition} AND ({height} IS NULL OR (first <= {height} AND last >= {height}))
            UNION ALL SELECT {columns} FROM tail.{name} WHERE {condition};"
    )
}

/// `address_summary(address)`: one row. DuckDB 1.4 loses what `WITH` names in a macro.
fn address_summary() -> String {
    let fees = sum("fees");
    let ether = |direction: &str| {
        let amount = format!("amount_{direction}");
        sum(&amount).replace("CASE WHEN", "CASE WHEN asset <> 'ETH' THEN NULL WHEN")
    };
    format!(
        "CREATE OR REPLACE MACRO main.address_summary(wanted) AS TABLE
        SELECT lower(wanted) AS address, (SELECT any_value(name) FROM main.labels WHERE address = lower(wanted)) AS label,
            least(flows.first_block, gas.first_block) AS first_block, greatest(flows.last_block, gas.last_block) AS last_block,
            {split_in}, {split_out}, {split_fees}, transaction_count, failed_count, gas_used, token_count, tokens_in, tokens_out
        FROM (SELECT {ether_in} AS ether_in, {ether_out} AS ether_out,
                count(DISTINCT asset) FILTER (WHERE asset <> 'ETH') AS token_count,
                coalesce(sum(count_in) FILTER (WHERE asset <> 'ETH'), 0)::BIGINT AS tokens_in,
                coalesce(sum(count_out) FILTER (WHERE asset <> 'ETH'), 0)::BIGINT AS tokens_out,
                min(first_block) AS first_block, max(last_block) AS last_block
            FROM ({address_flows}) WHERE address = lower(wanted)) AS flows,
            (SELECT {fees} AS fees, coalesce(sum(transaction_count), 0)::BIGINT AS transaction_count,
                coalesce(sum(failed_count), 0)::BIGINT AS failed_count, coalesce(sum(gas_used), 0)::DECIMAL(38,0) AS gas_used,
                min(first_block) AS first_block, max(last_block) AS last_block
            FROM ({gas_flows}) WHERE role = 'sender' AND address = lower(wanted)) AS gas;",
        ether_in = ether("in"),
        ether_out = ether("out"),
        address_flows = both(&address_flows::TABLE),
        gas_flows = both(&gas_flows::TABLE),
        split_in = split("ether_in", "ether_in"),
        split_out = split("ether_out", "ether_out"),
        split_fees = split("fees", "fees"),
    )
}
