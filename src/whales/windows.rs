//! What is told of the time up to the newest block: `net_flows`, `whales`, `whales_coverage` and `whale_moves`.
//!
//! These views are made anew with each block, for their times stand in them as literals: so a reader opens the files of that time only.

use super::answers::{split, sum, supply_of};
use super::ranking::{SHOWN_MAX, TAKEN_MAX};
use super::{Ranking, Unseen};
use crate::rows::answers::{NET_FLOWS, WHALE_MOVES, WHALES, WHALES_COVERAGE};
use crate::rows::coverage::Interval;
use crate::rows::{
    Selection, TIMESTAMP_MAX, Table, address_flows, balances, blocks, gas_blocks, native_transfers, timestamp,
    token_transfers,
};
use crate::sql::quoted;
use crate::store::BlockLink;

/// A run of sealed blocks.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Its tables.
    pub tables: Selection,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// When that was made, in seconds since 1970.
    pub last_timestamp: u64,
}

/// A window of [`NET_FLOWS`] as the newest block makes it.
#[derive(Clone, Debug)]
pub struct Window {
    /// Its name.
    pub name: &'static str,
    /// What is after this is in it; seconds since 1970. `None` where the newest block's time is beyond a `TIMESTAMP`: nothing is told of
    /// times then.
    pub start: Option<u64>,
    /// Its first block may be this, and none below.
    pub first: u64,
    /// The last block before it, as SQL; null where it is not held. None is above `before_max`.
    pub before: String,
    /// See `before`.
    pub before_max: u64,
    /// What changed unseen up to `before_max`.
    pub unseen: Unseen,
    /// Whether all its blocks are held, as SQL.
    pub complete: String,
    /// Whether ether that contracts moved is held for all its blocks.
    pub internal_complete: bool,
}

/// The windows' names and lengths, in seconds.
pub const WINDOWS: [(&str, u64); 4] = [("1h", 3_600), ("24h", 86_400), ("7d", 7 * 86_400), ("30d", 30 * 86_400)];

/// The windows that end with the newest block; none where there is no block.
pub fn of(
    ranges: impl DoubleEndedIterator<Item = Held>,
    tail: &[BlockLink],
    tail_tables: Selection,
    coverage: &[Interval],
) -> Vec<Window> {
    let tail_run = tail.first().zip(tail.last()).map(|(first, last)| Held {
        tables: tail_tables,
        first: first.number,
        last: last.number,
        last_timestamp: last.timestamp,
    });
    let runs: Vec<_> = ranges.chain(tail_run).collect();
    let Some(newest) = runs.last() else { return Vec::new() };
    let window = |(name, length): (&'static str, u64)| {
        let start = newest.last_timestamp.saturating_sub(length);
        let sealed = &runs[..runs.len() - usize::from(tail_run.is_some())];
        let run = sealed.iter().find(|run| run.last_timestamp > start);
        let first_of_tail = || tail.iter().find(|link| link.timestamp > start).map_or(0, |link| link.number);
        let first = run.map_or_else(first_of_tail, |run| run.first);
        let below = first.checked_sub(1).map_or("NULL".to_owned(), |below| below.to_string());
        let is_told = timestamp(newest.last_timestamp).is_some();
        let before = match run.filter(|run| run.tables.has(&blocks::TABLE)) {
            None => below,
            Some(_) if !is_told => "NULL".to_owned(),
            Some(_) => format!(
                "coalesce((SELECT max(number) FROM sealed.blocks WHERE first = {first} AND timestamp <= {}), {below})",
                instant(start)
            ),
        };
        let before_max = run.map_or(first, |run| run.last);
        let internal_complete = coverage.iter().any(|interval| {
            interval.table == native_transfers::TABLE.name
                && interval.status == "held"
                && interval.first <= first
                && interval.last >= newest.last
        });
        let complete = complete(&runs, tail, start);
        let start = is_told.then_some(start);
        let unseen = Unseen::in_coverage(coverage, before_max);
        Window { name, start, first, before, before_max, unseen, complete, internal_complete }
    };
    WINDOWS.into_iter().map(window).collect()
}

/// Whether all blocks after `start` are held, with all tables that are needed: those below link up to one that is older.
fn complete(runs: &[Held], tail: &[BlockLink], start: u64) -> String {
    let needed = [&blocks::TABLE, &native_transfers::TABLE, &token_transfers::TABLE, &address_flows::TABLE];
    let mut lowest: Option<&Held> = None;
    for run in runs.iter().rev() {
        let links = lowest.is_none_or(|above| run.last + 1 == above.first);
        if !links || !needed.iter().all(|table| run.tables.has(table)) {
            break;
        }
        if run.last_timestamp <= start || run.first == 0 {
            return "true".to_owned();
        }
        lowest = Some(run);
    }
    match (lowest, tail.first()) {
        (None, _) => "false".to_owned(),
        (Some(lowest), Some(tail)) if lowest.first == tail.number => (tail.timestamp <= start).to_string(),
        // Its own first block may be older; how old it is stands in its file.
        (Some(Held { first, .. }), _) => format!(
            "(SELECT coalesce(min(timestamp) <= {}, false) FROM sealed.blocks WHERE first = {first})",
            instant(start)
        ),
    }
}

/// A time in SQL, or the last one before it that can be told.
fn instant(seconds: u64) -> String {
    format!("make_timestamp({})", seconds.min(TIMESTAMP_MAX) * 1_000_000)
}

/// The body of [`NET_FLOWS`]. Of the day in which a window begins the movements are summed, of later ones the days' sums.
pub fn net_flows(windows: &[Window]) -> String {
    let bodies: Vec<_> = windows.iter().filter_map(window).collect();
    if bodies.is_empty() { nothing(&NET_FLOWS) } else { bodies.join(" UNION ALL ") }
}

/// What is known of supplies: of tokens where every block is held, of ether where all of them are traced too.
#[derive(Clone, Copy, Debug)]
pub struct Supplies {
    tokens: bool,
    ether: bool,
}

impl Supplies {
    /// What is known up to the newest block.
    pub fn of(coverage: &[Interval], newest: u64) -> Self {
        let whole = |table: &Table, statuses: &[&str]| {
            let of_table = |interval: &&Interval| interval.table == table.name && interval.first <= newest;
            let mut next = Some(0);
            for interval in coverage.iter().filter(of_table) {
                next = next.filter(|next| interval.first == *next && statuses.contains(&interval.status));
                next = next.map(|_| interval.last + 1);
            }
            next.is_some_and(|next| next > newest)
        };
        // Fees are burnt.
        let ether = [&address_flows::TABLE, &gas_blocks::TABLE].into_iter().all(|table| whole(table, &["held"]));
        Self { tokens: whole(&address_flows::TABLE, &["held", "partial"]), ether }
    }

    /// Asset, supply and its text. Where nothing is known no file is read for it.
    fn sql(self) -> String {
        match self.tokens {
            true => format!("SELECT asset, supply, supply_text FROM ({})", supply_of(self.ether, true)),
            false => {
                "SELECT NULL::VARCHAR AS asset, NULL::DECIMAL(38,0) AS supply, NULL::VARCHAR AS supply_text WHERE false"
                    .to_owned()
            }
        }
    }
}

/// A part of the supply in percent, rounded down to hundredths; both in decimal.
fn share(part: &str) -> String {
    // Divided as wholes: the quotient of two numbers of any length has at most five digits.
    let scaled = format!("try_cast({part}::VARCHAR || '0000' AS DECIMAL(38,0))");
    format!("try_cast(({scaled}::HUGEINT // nullif(try_cast(s.supply AS HUGEINT), 0)) * 0.01 AS DECIMAL(5,2)) AS share")
}

/// What a balance changed by since the struct `before`, as two columns.
fn change(before: &str, name: &str) -> String {
    let big = |narrow: &str, text: &str| format!("coalesce({narrow}::VARCHAR, {text})::BIGNUM");
    let narrow = format!("balance - {before}.narrow");
    let wide =
        format!("{} - {}", big("balance", "balance_text"), big(&format!("{before}.narrow"), &format!("{before}.wide")));
    let fits = format!("balance_text IS NULL AND {before}.wide IS NULL");
    format!(
        "CASE WHEN {fits} THEN {narrow} ELSE try_cast(({wide})::VARCHAR AS DECIMAL(38,0)) END::DECIMAL(38,0) AS {name},
            CASE WHEN NOT ({fits}) AND try_cast(({wide})::VARCHAR AS DECIMAL(38,0)) IS NULL THEN ({wide})::VARCHAR END AS {name}_text"
    )
}

/// The body of [`WHALES`]: the ranking, and what is newer. Where not all holders of an asset are ranked, those are left out who
/// have less than the last of them; and those whose balance may have changed unseen.
pub fn whales(windows: &[Window], ranking: Option<&Ranking>, supplies: Supplies, unseen: Unseen) -> String {
    let window = |name: &str| windows.iter().find(|window| window.name == name);
    let Some((day, week)) = window("24h").zip(window("7d")) else { return nothing(&WHALES) };
    let last = ranking.map_or(-1, |ranking| ranking.manifest.last as i64);
    let [day_ranked, week_ranked] =
        ranking.map_or([None; 2], |ranking| ranking.manifest.before).map(|last| last.map_or(-1, |last| last as i64));
    let before = |name: &str, window: &Window, ranked: i64| {
        let Window { before, before_max, unseen, .. } = window;
        format!(
            "{name} AS (SELECT asset, address, arg_max({{narrow: balance, wide: balance_text}}, block_number) AS known FROM (
                SELECT * EXCLUDE (first, last) FROM sealed.balances WHERE last > {ranked} AND first <= {before_max} AND block_number > {ranked}
                UNION ALL SELECT * FROM tail.balances)
            WHERE block_number <= ({before}) AND {known} AND (asset, address) IN (SELECT (asset, address) FROM top) GROUP BY asset, address)",
            known = unseen.sql("asset", "block_number"),
        )
    };
    format!(
        "WITH moved AS (SELECT asset, address, arg_max({{narrow: balance, wide: balance_text}}, block_number) AS known,
                max(block_number) AS block_number
            FROM (SELECT * EXCLUDE (first, last) FROM sealed.balances WHERE last > {last} AND block_number > {last}
                UNION ALL SELECT * FROM tail.balances) GROUP BY asset, address),
        latest AS (SELECT * FROM (SELECT asset, address, known.narrow AS balance, known.wide AS balance_text, block_number FROM moved
            UNION ALL SELECT asset, address, balance, balance_text, block_number FROM sealed.holders AS h
                WHERE NOT EXISTS (FROM moved WHERE moved.asset = h.asset AND moved.address = h.address)) WHERE {known}),
        top AS (SELECT top.* FROM latest AS top LEFT JOIN sealed.assets AS a ON a.asset = top.asset
            WHERE (top.balance > 0 OR top.balance_text IS NOT NULL) AND (least_address IS NULL
                OR CASE WHEN top.balance_text IS NULL THEN top.balance > least
                    ELSE least_text IS NULL OR (length(top.balance_text), top.balance_text) > (length(least_text), least_text) END
                OR (top.balance IS NOT DISTINCT FROM least AND top.balance_text IS NOT DISTINCT FROM least_text AND top.address <= least_address))
            QUALIFY row_number() OVER ({order}) <= {TAKEN_MAX}),
        {of_day},
        {of_week},
        flows AS (SELECT asset, address, min(first_block) AS first_block, max(last_block) AS last_block
            FROM (SELECT asset, address, first_block, last_block FROM sealed.address_flows WHERE last > {last}
                UNION ALL SELECT asset, address, first_block, last_block FROM tail.address_flows)
            WHERE address IN (SELECT address FROM top) GROUP BY asset, address)
        SELECT asset, rank, address, label, balance, balance_text, block_number, {share}, {change_24h}, {change_7d}, first_block, last_block
        FROM (SELECT top.*, row_number() OVER ({order}) AS rank, labels.name AS label,
                coalesce(of_day.known, {of_day_ranked}) AS of_day, coalesce(of_week.known, {of_week_ranked}) AS of_week,
                least(h.first_block, flows.first_block) AS first_block, greatest(h.last_block, flows.last_block) AS last_block
            FROM top LEFT JOIN sealed.holders AS h ON h.asset = top.asset AND h.address = top.address
                LEFT JOIN of_day ON of_day.asset = top.asset AND of_day.address = top.address
                LEFT JOIN of_week ON of_week.asset = top.asset AND of_week.address = top.address
                LEFT JOIN flows ON flows.asset = top.asset AND flows.address = top.address
                LEFT JOIN main.labels ON labels.address = top.address
            WHERE top.asset = 'ETH' OR coalesce(greatest(h.last_block, flows.last_block) <= top.block_number, true)
            QUALIFY rank <= {SHOWN_MAX})
            LEFT JOIN ({supplies}) AS s USING (asset)",
        known = unseen.sql("asset", "block_number"),
        order = "PARTITION BY top.asset ORDER BY top.balance_text IS NULL, length(top.balance_text) DESC, top.balance_text DESC,
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

/// A balance of before as the ranking has it after block `ranked`; null where it has none, or where it may have changed unseen since.
fn ranked_before(Window { name, unseen, .. }: &Window, ranked: i64) -> String {
    let [narrow, wide] = [format!("h.balance_{name}"), format!("h.balance_{name}_text")];
    let known = unseen.sql("h.asset", &ranked.to_string());
    format!(
        "CASE WHEN ({narrow} IS NOT NULL OR {wide} IS NOT NULL) AND {known} THEN {{narrow: {narrow}, wide: {wide}}} END"
    )
}

/// The body of [`WHALES_COVERAGE`]: as the ranking has it, or where there is none, of all that is held.
pub fn whales_coverage(
    newest: Option<u64>,
    ranking: Option<&Ranking>,
    supplies: Supplies,
    coverage: &[Interval],
) -> String {
    let Some(newest) = newest else { return nothing(&WHALES_COVERAGE) };
    let unseen = Unseen::in_coverage(coverage, newest);
    let assets = match ranking {
        Some(_) => "SELECT * FROM sealed.assets".to_owned(),
        None => format!(
            "SELECT asset, address_count, {} FROM (SELECT asset, count(*) AS address_count, sum(balance) AS balance
                FROM (SELECT asset, address, arg_max(coalesce(balance::VARCHAR, balance_text), block_number)::BIGNUM AS balance,
                    max(block_number) AS block_number FROM main.balances GROUP BY asset, address)
                LEFT JOIN (SELECT asset, address, max(last_block) AS last_block FROM (
                    SELECT asset, address, last_block FROM sealed.address_flows WHERE last >= {tokens}
                    UNION ALL SELECT asset, address, last_block FROM tail.address_flows) GROUP BY asset, address)
                    USING (asset, address)
                WHERE {known} AND (asset = 'ETH' OR coalesce(last_block <= block_number, true)) GROUP BY asset)",
            split("balance", "balance"),
            known = unseen.sql("asset", "block_number"),
            tokens = unseen.tokens.unwrap_or(0),
        ),
    };
    let first = coverage.iter().find(|interval| interval.table == balances::TABLE.name).map(|interval| interval.first);
    let since_block = unseen.ether.map(|unseen| unseen + 1).or(first).filter(|since| *since <= newest);
    format!(
        "SELECT asset, address_count, balance, balance_text, supply, supply_text, {share}, {last}::BIGINT AS block_number,
            CASE WHEN asset = 'ETH' THEN {since_block} ELSE (SELECT max(first_block) FROM main.coverage
                WHERE table_name = '{balances}' AND status = 'held' AND last_block = {newest}) END::BIGINT AS since_block
        FROM ({assets}) LEFT JOIN ({supplies}) AS s USING (asset)",
        share = share("balance"),
        last = ranking.map_or(newest, |ranking| ranking.manifest.last),
        since_block = since_block.map_or("NULL".to_owned(), |block| block.to_string()),
        balances = balances::TABLE.name,
        supplies = supplies.sql(),
    )
}

/// The body of [`WHALE_MOVES`], of the window of a day.
pub fn whale_moves(windows: &[Window]) -> String {
    let day = windows.iter().find(|window| window.name == "24h");
    let Some((day, start)) = day.and_then(|day| Some((day, day.start?))) else { return nothing(&WHALE_MOVES) };
    let after = format!("block_timestamp > {}", instant(start));
    format!(
        "SELECT m.asset, least(f.rank, t.rank) AS rank, kind, amount, amount_text, from_address, fl.name AS from_label, to_address,
            tl.name AS to_label, m.block_number, block_timestamp, transaction_hash
        FROM (SELECT * EXCLUDE (first, last) FROM sealed.movements WHERE last >= {first} AND {after}
            UNION ALL SELECT * FROM tail.movements WHERE {after}) AS m
        LEFT JOIN main.whales AS f ON f.asset = m.asset AND f.address = from_address
        LEFT JOIN main.whales AS t ON t.asset = m.asset AND t.address = to_address
        LEFT JOIN main.labels AS fl ON fl.address = from_address LEFT JOIN main.labels AS tl ON tl.address = to_address
        WHERE f.rank IS NOT NULL OR t.rank IS NOT NULL ORDER BY m.block_number DESC, kind, transfer_index DESC, batch_index DESC",
        first = day.first,
    )
}

/// A view's columns without a row.
pub fn nothing(table: &Table) -> String {
    let columns = table.columns.iter().map(|column| format!("NULL::{} AS {}", column.kind.sql(), quoted(column.name)));
    format!("SELECT {} WHERE false", columns.collect::<Vec<_>>().join(", "))
}

fn window(window: &Window) -> Option<String> {
    let Window { name, start, first, complete, internal_complete, .. } = window;
    let (start, first) = ((*start)?, *first);
    let day = start / 86_400 * 86_400;
    let after = |from: u64, column: &str| format!("{column} > {}", instant(from));
    let of_day = |schema: &str, range: &str| {
        let wanted = format!(
            "{} AND block_timestamp < make_timestamp({}){range}",
            after(start, "block_timestamp"),
            (day + 86_400) * 1_000_000
        );
        let amounts = |taken: &str, given: &str| {
            let [taken, given] =
                [taken, given].map(|way| if way == "0" { ("0", "NULL::VARCHAR") } else { ("amount", "amount_text") });
            format!(
                "{}::DECIMAL(38,0) AS amount_in, {} AS amount_in_text, {}::DECIMAL(38,0) AS amount_out, {} AS amount_out_text",
                taken.0, taken.1, given.0, given.1
            )
        };
        format!(
            "SELECT asset, to_address AS address, {}, 1::BIGINT AS count_in, 0::BIGINT AS count_out FROM {schema}.movements
                WHERE {wanted} AND to_address IS NOT NULL
            UNION ALL SELECT asset, from_address, {}, 0, 1 FROM {schema}.movements WHERE {wanted} AND from_address IS NOT NULL",
            amounts("amount", "0"),
            amounts("0", "amount"),
        )
    };
    let later = |schema: &str, range: &str| {
        format!(
            "SELECT asset, address, amount_in, amount_in_text, amount_out, amount_out_text, count_in, count_out
            FROM {schema}.address_flows WHERE {}{range}",
            after(day, "day")
        )
    };
    let range = format!(" AND last >= {first}");
    let parts =
        [of_day("sealed", &range), of_day("tail", ""), later("sealed", &range), later("tail", "")].join(" UNION ALL ");
    Some(format!(
        "SELECT '{name}' AS period, asset, address, {amount_in}, {amount_out}, {amount_net}, count_in, count_out,
            ({complete})::BIGINT AS complete,
            CASE WHEN asset <> 'ETH' THEN {complete} ELSE {internal} END::BIGINT AS internal_complete
        FROM (SELECT asset, address, {sum_in} AS amount_in, {sum_out} AS amount_out, sum(count_in)::BIGINT AS count_in,
            sum(count_out)::BIGINT AS count_out FROM ({parts}) GROUP BY asset, address)",
        internal = if *internal_complete { complete } else { "false" },
        amount_in = split("amount_in", "amount_in"),
        amount_out = split("amount_out", "amount_out"),
        amount_net = split("(amount_in - amount_out)", "amount_net"),
        sum_in = sum("amount_in"),
        sum_out = sum("amount_out"),
    ))
}
