//! `supply`: the supply of each asset.

use super::amounts::{FITS_NOT, split, sum};
use super::stored::union;
use super::sums::SUMS;
use super::windows::NEWEST;
use crate::rows::Kind::{Text, Wide};
use crate::rows::coverage::Interval;
use crate::rows::{Table, address_flows, column, gas_blocks};

/// The zero address: tokens are minted from it and burnt to it.
const ZERO: &str = "0x0000000000000000000000000000000000000000";

pub(super) const TABLE: Table = Table {
    name: "supply",
    comment: "One row per asset with amounts: what was created and burnt in the blocks stored; for \
              tokens, according to transfers from and to the zero address.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column(
            "made",
            Wide,
            "Ether: amount created, less what contracts destroyed. Token: amount transferred from \
             the zero address.",
        ),
        column("made_text", Text, FITS_NOT),
        column(
            "burnt",
            Wide,
            "Ether: fees burnt, including those for blobs. Token: amount transferred to the zero \
             address.",
        ),
        column("burnt_text", Text, FITS_NOT),
        column(
            "supply",
            Wide,
            "Created less burnt; null unless all transfers from block 0 on are stored, and if it \
             would be negative.",
        ),
        column("supply_text", Text, FITS_NOT),
    ],
};

/// Its query; the ranking's sums are valid up to block `summed`.
pub(super) fn body(summed: Option<u64>) -> String {
    query(true, true, summed)
}

/// Flows and fees: the ranking's sums, and the rows of newer ranges and of the tail. In the sums
/// every flow of a token is the zero address's.
fn stored(summed: Option<u64>) -> [String; 2] {
    let summed = summed.map_or(-1, |summed| summed as i64);
    let above = |table: &Table, columns: &str| {
        let name = table.name;
        [
            format!("SELECT {columns} FROM sealed.{name} WHERE last > {summed}"),
            format!("SELECT {columns} FROM tail.{name}"),
        ]
    };
    let below = |columns: &str| {
        format!("SELECT {columns} FROM sealed.{} WHERE last_block <= {summed}", SUMS.name)
    };
    let amounts = "amount_in, amount_in_text, amount_out, amount_out_text";
    let [of_ranges, of_tail] = above(&address_flows::TABLE, &format!("asset, address, {amounts}"));
    let of_sums = below(&format!("asset, '{ZERO}' AS address, {amounts}"));
    let flows = union([of_sums, of_ranges, of_tail]);
    let [of_ranges, of_tail] =
        above(&gas_blocks::TABLE, "burnt, burnt_text, blob_burnt, blob_burnt_text");
    let of_sums = below(
        "burnt, burnt_text, NULL::DECIMAL(38,0) AS blob_burnt, NULL::VARCHAR AS blob_burnt_text",
    );
    [flows, union([of_sums, of_ranges, of_tail])]
}

/// For ether, transfers cancel out, and the sum over all addresses is what was created. Tokens that
/// are only counted, because their ids are not amounts, have neither sum and are left out.
fn query(ether: bool, tokens: bool, summed: Option<u64>) -> String {
    let [flows, fees] = stored(summed);
    let (sum_in, sum_out) = (sum("amount_in"), sum("amount_out"));
    let of_ether = format!(
        "SELECT 'ETH' AS asset,
            (SELECT {sum_in} - {sum_out} FROM ({flows}) WHERE asset = 'ETH') AS made,
            (SELECT {} + {} FROM ({fees})) AS burnt",
        sum("burnt"),
        sum("blob_burnt"),
    );
    let of_tokens = format!(
        "SELECT asset, {sum_out} AS made, {sum_in} AS burnt
        FROM ({flows})
        WHERE address = '{ZERO}' AND asset <> 'ETH'
        GROUP BY asset"
    );
    let parts = [(ether, of_ether), (tokens, of_tokens)]
        .into_iter()
        .filter_map(|(wanted, part)| wanted.then_some(part));
    format!(
        "SELECT asset, {made}, {burnt}, {supply} FROM (
            SELECT * EXCLUDE (whole, traced),
                CASE WHEN made >= burnt AND whole AND (asset <> 'ETH' OR traced)
                    THEN made - burnt END AS supply
            FROM ({parts}),
                (SELECT min(first_block) = 0 AND bool_and(status IN ('held', 'partial'))
                        FILTER (table_name = '{flows}') AS whole,
                    bool_and(status = 'held') AS traced
                FROM main.coverage
                WHERE table_name IN ('{flows}', '{fees}')
                    AND first_block <= (SELECT number FROM {NEWEST}))
            WHERE made > 0::BIGNUM OR burnt > 0::BIGNUM)",
        parts = parts.collect::<Vec<_>>().join(" UNION ALL "),
        made = split("made", "made"),
        burnt = split("burnt", "burnt"),
        supply = split("supply", "supply"),
        flows = address_flows::TABLE.name,
        fees = gas_blocks::TABLE.name,
    )
}

/// Which supplies are known: of tokens if every block is stored, of ether if all of them are traced
/// too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Supplies {
    tokens: bool,
    ether: bool,
    /// The block up to which the ranking's sums are valid.
    summed: Option<u64>,
}

impl Supplies {
    /// The supplies known up to the newest block; the ranking's sums are valid up to block
    /// `summed`.
    pub(super) fn of(coverage: &[Interval], newest: u64, summed: Option<u64>) -> Self {
        let whole = |table: &Table, statuses: &[&str]| {
            let of_table =
                |interval: &&Interval| interval.table == table.name && interval.first <= newest;
            let mut next = Some(0);
            for interval in coverage.iter().filter(of_table) {
                next = next
                    .filter(|next| interval.first == *next && statuses.contains(&interval.status));
                next = next.map(|_| interval.last + 1);
            }
            next.is_some_and(|next| next > newest)
        };
        // Fees are burnt.
        let ether = [&address_flows::TABLE, &gas_blocks::TABLE]
            .into_iter()
            .all(|table| whole(table, &["held"]));
        Self { tokens: whole(&address_flows::TABLE, &["held", "partial"]), ether, summed }
    }

    /// Asset, supply and its text. If none is known, no file is read.
    pub(super) fn sql(self) -> String {
        match self.tokens {
            true => format!(
                "SELECT asset, supply, supply_text FROM ({})",
                query(self.ether, true, self.summed)
            ),
            false => "SELECT NULL::VARCHAR AS asset, NULL::DECIMAL(38,0) AS supply,
                    NULL::VARCHAR AS supply_text
                WHERE false"
                .to_owned(),
        }
    }
}

/// A share of the supply in percent, rounded down to hundredths; both in decimal.
pub(super) fn share(part: &str) -> String {
    // Integer division: the quotient of two numbers of any length has at most five digits. A
    // scaled part has at most 38. Arithmetic is 20 times faster than a cast from text.
    let scaled =
        format!("CASE WHEN abs({part}) < 1{} THEN {part}::HUGEINT * 10000 END", "0".repeat(34));
    format!(
        "try_cast((({scaled}) // nullif(try_cast(s.supply AS HUGEINT), 0)) * 0.01
            AS DECIMAL(5,2)) AS share"
    )
}
