//! `whales`: the largest holders of each asset.

use super::amounts::FITS_NOT;
use super::ranking::Ranking;
use super::ranks::{SHOWN_MAX, TAKEN_MAX};
use super::stored::nothing;
use super::supply::{Supplies, share};
use super::unseen::Unseen;
use super::windows::Window;
use crate::rows::Kind::{Integer, Percent, Text, Wide};
use crate::rows::{Table, column};

pub(crate) const TABLE: Table = Table {
    name: "whales",
    comment: "One row per asset and address: the 10,000 largest holders among those whose balance \
              is known; whales_coverage says how many these are.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("rank", Integer, "1 for the largest."),
        column("address", Text, "The address."),
        column("label", Text, "Its name, if it has one."),
        column("balance", Wide, "In wei, or in the token's smallest unit."),
        column("balance_text", Text, FITS_NOT),
        column(
            "block_number",
            Integer,
            "The last block that changed it, of those whose balances are stored.",
        ),
        column(
            "share",
            Percent,
            "In percent of the supply, rounded down; null if that is not known.",
        ),
        column(
            "change_24h",
            Wide,
            "The balance less the balance a day before the newest block; null if that is not \
             known.",
        ),
        column("change_24h_text", Text, FITS_NOT),
        column("change_7d", Wide, "The same for 7 days."),
        column("change_7d_text", Text, FITS_NOT),
        column("first_block", Integer, "The first stored block in which it transferred the asset."),
        column("last_block", Integer, "The last."),
    ],
};

/// Its query: the ranking, and newer balances. If not all holders of an asset are ranked, those
/// with less than the last ranked one are left out; so are those whose balance may have changed
/// unobserved.
pub(super) fn body(
    windows: &[Window],
    ranking: Option<&Ranking>,
    supplies: Supplies,
    unseen: Unseen,
) -> String {
    let window = |name: &str| windows.iter().find(|window| window.name == name);
    let Some((day, week)) = window("24h").zip(window("7d")) else { return nothing(&TABLE) };
    let last = ranking.map_or(-1, |ranking| ranking.manifest.last as i64);
    let [day_ranked, week_ranked] = ranking
        .map_or([None; 2], |ranking| ranking.manifest.before)
        .map(|last| last.map_or(-1, |last| last as i64));
    let before = |name: &str, window: &Window, ranked: i64| {
        let Window { before, before_max, unseen, .. } = window;
        format!(
            "{name} AS (SELECT asset, address,
                arg_max({{narrow: balance, wide: balance_text}}, block_number) AS known
            FROM (SELECT * EXCLUDE (first, last) FROM sealed.balances
                WHERE last > {ranked} AND first <= {before_max} AND block_number > {ranked}
                UNION ALL SELECT * FROM tail.balances)
            WHERE block_number <= ({before}) AND {known}
                AND (asset, address) IN (SELECT (asset, address) FROM top)
            GROUP BY asset, address)",
            known = unseen.sql("asset", "block_number"),
        )
    };
    format!(
        "WITH moved AS (SELECT asset, address,
                arg_max({{narrow: balance, wide: balance_text}}, block_number) AS known,
                max(block_number) AS block_number
            FROM (SELECT * EXCLUDE (first, last) FROM sealed.balances
                WHERE last > {last} AND block_number > {last}
                UNION ALL SELECT * FROM tail.balances) GROUP BY asset, address),
        latest AS (SELECT * FROM (
                SELECT asset, address, known.narrow AS balance, known.wide AS balance_text,
                    block_number
                FROM moved
                UNION ALL SELECT asset, address, balance, balance_text, block_number
                FROM sealed.holders AS h
                WHERE NOT EXISTS (FROM moved
                    WHERE moved.asset = h.asset AND moved.address = h.address))
            WHERE {known}),
        top AS (SELECT top.* FROM latest AS top LEFT JOIN sealed.assets AS a ON a.asset = top.asset
            WHERE (top.balance > 0 OR top.balance_text IS NOT NULL) AND (least_address IS NULL
                OR CASE WHEN top.balance_text IS NULL THEN top.balance > least
                    ELSE least_text IS NULL
                        OR (length(top.balance_text), top.balance_text)
                            > (length(least_text), least_text) END
                OR (top.balance IS NOT DISTINCT FROM least
                    AND top.balance_text IS NOT DISTINCT FROM least_text
                    AND top.address <= least_address))
            QUALIFY row_number() OVER ({order}) <= {TAKEN_MAX}),
        {of_day},
        {of_week},
        flows AS (SELECT asset, address, min(first_block) AS first_block,
                max(last_block) AS last_block
            FROM (SELECT asset, address, first_block, last_block FROM sealed.address_flows
                WHERE last > {last}
                UNION ALL SELECT asset, address, first_block, last_block FROM tail.address_flows)
            WHERE address IN (SELECT address FROM top) GROUP BY asset, address)
        SELECT asset, rank, address, label, balance, balance_text, block_number, {share},
            {change_24h}, {change_7d}, first_block, last_block
        FROM (SELECT top.*, row_number() OVER ({order}) AS rank, labels.name AS label,
                coalesce(of_day.known, {of_day_ranked}) AS of_day,
                coalesce(of_week.known, {of_week_ranked}) AS of_week,
                least(h.first_block, flows.first_block) AS first_block,
                greatest(h.last_block, flows.last_block) AS last_block
            FROM top
                LEFT JOIN sealed.holders AS h ON h.asset = top.asset AND h.address = top.address
                LEFT JOIN of_day ON of_day.asset = top.asset AND of_day.address = top.address
                LEFT JOIN of_week ON of_week.asset = top.asset AND of_week.address = top.address
                LEFT JOIN flows ON flows.asset = top.asset AND flows.address = top.address
                LEFT JOIN main.labels ON labels.address = top.address
            WHERE top.asset = 'ETH'
                OR coalesce(greatest(h.last_block, flows.last_block) <= top.block_number, true)
            QUALIFY rank <= {SHOWN_MAX})
            LEFT JOIN ({supplies}) AS s USING (asset)",
        known = unseen.sql("asset", "block_number"),
        order = "PARTITION BY top.asset
            ORDER BY top.balance_text IS NULL, length(top.balance_text) DESC, top.balance_text DESC,
                top.balance DESC, top.address",
        of_day = before("of_day", day, day_ranked),
        of_week = before("of_week", week, week_ranked),
        of_day_ranked = ranked_before(day, day_ranked),
        of_week_ranked = ranked_before(week, week_ranked),
        share = share("balance"),
        change_24h = change("of_day", "change_24h"),
        change_7d = change("of_week", "change_7d"),
        supplies = supplies.sql(),
    )
}

/// The change of a balance since the struct `before`, as two columns.
fn change(before: &str, name: &str) -> String {
    let big = |narrow: &str, text: &str| format!("coalesce({narrow}::VARCHAR, {text})::BIGNUM");
    let narrow = format!("balance - {before}.narrow");
    let wide = format!(
        "{} - {}",
        big("balance", "balance_text"),
        big(&format!("{before}.narrow"), &format!("{before}.wide"))
    );
    let fits = format!("balance_text IS NULL AND {before}.wide IS NULL");
    format!(
        "CASE WHEN {fits} THEN {narrow}
            ELSE try_cast(({wide})::VARCHAR AS DECIMAL(38,0)) END::DECIMAL(38,0) AS {name},
            CASE WHEN NOT ({fits}) AND try_cast(({wide})::VARCHAR AS DECIMAL(38,0)) IS NULL
                THEN ({wide})::VARCHAR END AS {name}_text"
    )
}

/// An earlier balance as in the ranking after block `ranked`; null if it has none, or if it may
/// have changed unobserved since.
fn ranked_before(Window { name, unseen, .. }: &Window, ranked: i64) -> String {
    let [narrow, wide] = [format!("h.balance_{name}"), format!("h.balance_{name}_text")];
    let known = unseen.sql("h.asset", &ranked.to_string());
    format!(
        "CASE WHEN ({narrow} IS NOT NULL OR {wide} IS NOT NULL) AND {known}
            THEN {{narrow: {narrow}, wide: {wide}}} END"
    )
}
