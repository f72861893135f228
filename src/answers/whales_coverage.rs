//! `whales_coverage`: how much of each asset is in known balances.

use super::amounts::{FITS_NOT, split};
use super::ranking::Ranking;
use super::stored::nothing;
use super::supply::{Supplies, share};
use super::unseen::Unseen;
use super::windows::NEWEST;
use crate::rows::Kind::{Integer, Percent, Text, Wide};
use crate::rows::coverage::Interval;
use crate::rows::{Table, balances, column};

pub(crate) const TABLE: Table = Table {
    name: "whales_coverage",
    comment: "One row per asset with balances: how much of it is known. whales is certain to have \
              the largest holders only if all of the supply is.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("address_count", Integer, "Number of addresses whose balance is known."),
        column("balance", Wide, "Their total."),
        column("balance_text", Text, FITS_NOT),
        column("supply", Wide, "The supply; null if not known."),
        column("supply_text", Text, FITS_NOT),
        column(
            "share",
            Percent,
            "The known balances in percent of the supply, rounded down; null if not known.",
        ),
        column(
            "block_number",
            Integer,
            "The block after which these were counted and summed; whales has later balances too.",
        ),
        column(
            "since_block",
            Integer,
            "From this block on every changed balance is stored; null if those of the newest block \
             are not.",
        ),
    ],
};

/// Its query: from the ranking, or if there is none, from everything stored.
pub(super) fn body(
    newest: Option<u64>,
    ranking: Option<&Ranking>,
    supplies: Supplies,
    coverage: &[Interval],
) -> String {
    let Some(newest) = newest else { return nothing(&TABLE) };
    let unseen = Unseen::in_coverage(coverage, newest);
    let assets = match ranking {
        Some(_) => "SELECT * FROM sealed.assets".to_owned(),
        None => format!(
            "SELECT asset, address_count, {}
            FROM (SELECT asset, count(*) AS address_count, sum(balance) AS balance
                FROM (SELECT asset, address,
                        arg_max(coalesce(balance::VARCHAR, balance_text), block_number)::BIGNUM
                            AS balance,
                        max(block_number) AS block_number
                    FROM main.balances GROUP BY asset, address)
                LEFT JOIN (SELECT asset, address, max(last_block) AS last_block FROM (
                        SELECT asset, address, last_block FROM sealed.address_flows
                        WHERE last >= {tokens}
                        UNION ALL SELECT asset, address, last_block FROM tail.address_flows)
                    GROUP BY asset, address)
                    USING (asset, address)
                WHERE {known} AND (asset = 'ETH' OR coalesce(last_block <= block_number, true))
                GROUP BY asset)",
            split("balance", "balance"),
            known = unseen.sql("asset", "block_number"),
            tokens = unseen.tokens.unwrap_or(0),
        ),
    };
    let first = coverage
        .iter()
        .find(|interval| interval.table == balances::TABLE.name)
        .map(|interval| interval.first);
    let since_block =
        unseen.ether.map(|unseen| unseen + 1).or(first).filter(|since| *since <= newest);
    format!(
        "SELECT asset, address_count, balance, balance_text, supply, supply_text, {share},
            {counted}::BIGINT AS block_number,
            CASE WHEN asset = 'ETH' THEN {since_block}
                ELSE (SELECT max(first_block) FROM main.coverage
                    WHERE table_name = '{balances}' AND status = 'held'
                        AND last_block = (SELECT number FROM {NEWEST}))
                END::BIGINT AS since_block
        FROM ({assets}) LEFT JOIN ({supplies}) AS s USING (asset)",
        share = share("balance"),
        counted = ranking.map_or_else(
            || format!("(SELECT number FROM {NEWEST})"),
            |ranking| ranking.manifest.last.to_string()
        ),
        since_block = since_block.map_or("NULL".to_owned(), |block| block.to_string()),
        balances = balances::TABLE.name,
        supplies = supplies.sql(),
    )
}
