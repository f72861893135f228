//! What analysts ask of: views of the published file, described like every other table. [`crate::whales`] has their SQL.

use super::Kind::{Integer, Long, Percent, Text, Time, Wide};
use super::{Column, Table, column, concat};

const FITS_NOT: &str = "The same where it does not fit a DECIMAL(38,0), else null.";

/// `movements`.
pub const MOVEMENTS: Table = Table {
    name: "movements",
    comment: "One row per movement of ether or of a token, in one shape: what all analysis is made of.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("kind", Text, "As in native_transfers; or the token's standard."),
        column("block_number", Integer, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("transaction_hash", Text, "Its transaction, or null."),
        column(
            "transfer_index",
            Integer,
            "Of a token: position of its log in the block; of ether: as in native_transfers.",
        ),
        column("batch_index", Integer, "Position within an ERC-1155 batch, from 0; else 0."),
        column("from_address", Text, "Who gave; null where ether is made."),
        column("to_address", Text, "Who took; null where ether is destroyed."),
        column(
            "amount",
            Wide,
            "In wei, or in the token's smallest unit; null where the number is an id, or may be one.",
        ),
        column("amount_text", Text, FITS_NOT),
    ],
};

/// `large_transfers`.
pub const LARGE_TRANSFERS: Table = Table {
    name: "large_transfers",
    comment: "One row per large movement: the 100 largest of each asset and UTC day, and all of ether from 100 ether up.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("day", Time, "The day's first instant, UTC."),
        column("rank", Integer, "1 for the day's largest of that asset."),
        column("amount", Wide, "In wei, or in the token's smallest unit."),
        column("amount_text", Text, FITS_NOT),
        column("kind", Text, "As in native_transfers; or the token's standard."),
        column("from_address", Text, "Who gave; null where ether is made."),
        column("from_label", Text, "Its name, if it has one."),
        column("from_balance", Wide, "What it had of the asset after the block; null where that is not known."),
        column("from_balance_text", Text, FITS_NOT),
        column("to_address", Text, "Who took; null where ether is destroyed."),
        column("to_label", Text, "Its name, if it has one."),
        column("to_balance", Wide, "What it had of the asset after the block; null where that is not known."),
        column("to_balance_text", Text, FITS_NOT),
        column("block_number", Integer, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("transaction_hash", Text, "Its transaction, or null."),
        column("transfer_index", Integer, "As in movements."),
        column("batch_index", Integer, "As in movements."),
    ],
};

/// `net_flows`.
pub const NET_FLOWS: Table = Table {
    name: "net_flows",
    comment: "One row per period, asset and address: what went in and out in the time up to the newest block.",
    columns: &[
        column("period", Text, "1h, 24h, 7d or 30d; it ends with the newest block."),
        column("asset", Text, "ETH, or the token's contract."),
        column("address", Text, "Who gave or took."),
        column("amount_in", Wide, "What came in, in wei or in the token's smallest unit."),
        column("amount_in_text", Text, FITS_NOT),
        column("amount_out", Wide, "What went out. Fees are not among it."),
        column("amount_out_text", Text, FITS_NOT),
        column("amount_net", Wide, "What came in less what went out."),
        column("amount_net_text", Text, FITS_NOT),
        column("count_in", Integer, "Movements in."),
        column("count_out", Integer, "Movements out."),
        column("complete", Integer, "1 where every block of the period is held, else 0."),
        column(
            "internal_complete",
            Integer,
            "1 where ether that contracts moved is in it, for every block; of tokens it always is.",
        ),
    ],
};

/// `exchange_flows`.
pub const EXCHANGE_FLOWS: Table = Table {
    name: "exchange_flows",
    comment: "One row per UTC day, category of labels, and asset: what went in and out of all addresses of that category. What moved between two of them is in both, and cancels out in the net.",
    columns: &[
        column("day", Time, "The day's first instant, UTC."),
        column("category", Text, "The labels' category."),
        column("asset", Text, "ETH, or the token's contract."),
        column("amount_in", Wide, "What came in, in wei or in the token's smallest unit."),
        column("amount_in_text", Text, FITS_NOT),
        column("amount_out", Wide, "What went out."),
        column("amount_out_text", Text, FITS_NOT),
        column("amount_net", Wide, "What came in less what went out."),
        column("amount_net_text", Text, FITS_NOT),
        column("address_count", Integer, "How many of the category's addresses took part."),
    ],
};

/// `supply`.
pub const SUPPLY: Table = Table {
    name: "supply",
    comment: "One row per asset with amounts: what was made and burnt in the blocks held. Of tokens, as their transfers from and to the zero address say.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column(
            "made",
            Wide,
            "Of ether: what came into being, less what contracts destroyed. Of a token: what came from the zero address.",
        ),
        column("made_text", Text, FITS_NOT),
        column("burnt", Wide, "Of ether: fees, for blobs too. Of a token: what went to the zero address."),
        column("burnt_text", Text, FITS_NOT),
        column(
            "supply",
            Wide,
            "The first less the second; null unless all movements from block 0 on are held, and where it would be negative.",
        ),
        column("supply_text", Text, FITS_NOT),
    ],
};

/// `whales`.
pub const WHALES: Table = Table {
    name: "whales",
    comment: "One row per asset and address: the 10,000 that have most, of those whose balance the node told. whales_coverage says how many these are.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("rank", Integer, "1 for who has most."),
        column("address", Text, "Who."),
        column("label", Text, "Its name, if it has one."),
        column("balance", Wide, "In wei, or in the token's smallest unit."),
        column("balance_text", Text, FITS_NOT),
        column("block_number", Integer, "The block that changed it last, of those whose balances are held."),
        column("share", Percent, "In percent of the supply, rounded down; null where that is not known."),
        column(
            "change_24h",
            Wide,
            "The balance less what it was a day before the newest block; null where that is not known.",
        ),
        column("change_24h_text", Text, FITS_NOT),
        column("change_7d", Wide, "The same for 7 days."),
        column("change_7d_text", Text, FITS_NOT),
        column("first_block", Integer, "The first block held in which it moved the asset."),
        column("last_block", Integer, "The last."),
    ],
};

/// `whales_coverage`.
pub const WHALES_COVERAGE: Table = Table {
    name: "whales_coverage",
    comment: "One row per asset with balances: how much of it is known. Only where all of the supply is do whales have the biggest holders.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("address_count", Integer, "Addresses whose balance is known."),
        column("balance", Wide, "What they have together."),
        column("balance_text", Text, FITS_NOT),
        column("supply", Wide, "What there is; null where that is not known."),
        column("supply_text", Text, FITS_NOT),
        column("share", Percent, "The first in percent of the second, rounded down; null where that is not known."),
        column(
            "block_number",
            Integer,
            "Counted and summed after this block; what whales has of later ones is not among it.",
        ),
        column(
            "since_block",
            Integer,
            "From this block on every balance that changed is held; null where that of the newest is not.",
        ),
    ],
};

/// `whale_moves`.
pub const WHALE_MOVES: Table = Table {
    name: "whale_moves",
    comment: "One row per movement from or to an address in whales, of that asset: what they did in the last 24 hours, newest first.",
    columns: &[
        column("asset", Text, "ETH, or the token's contract."),
        column("rank", Integer, "The higher of both sides' ranks in whales."),
        column("kind", Text, "As in movements."),
        column("amount", Wide, "In wei, or in the token's smallest unit."),
        column("amount_text", Text, FITS_NOT),
        column("from_address", Text, "Who gave; null where ether is made."),
        column("from_label", Text, "Its name, if it has one."),
        column("to_address", Text, "Who took; null where ether is destroyed."),
        column("to_label", Text, "Its name, if it has one."),
        column("block_number", Integer, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("transaction_hash", Text, "Its transaction, or null."),
    ],
};

const GAS: [Column; 23] = [
    column("first_block", Integer, "Its first block."),
    column("last_block", Integer, "Its last block."),
    column("block_count", Integer, "How many blocks it has."),
    column("transaction_count", Integer, "Transactions."),
    column("failed_count", Integer, "Those that failed."),
    column("gas_limit", Long, "Gas that its blocks could use."),
    column("gas_used", Long, "Gas that they used."),
    column("utilisation", Percent, "The gas used in percent of the limit."),
    column("base_fee_min", Wide, "The lowest base fee, in wei per gas."),
    column("base_fee_50", Wide, "The median of the blocks' base fees."),
    column("base_fee_max", Wide, "The highest base fee."),
    column("tip_10", Wide, "The median of the blocks' 10 % quantiles of tips, in wei per gas."),
    column("tip_50", Wide, "The median of the blocks' medians."),
    column("tip_90", Wide, "The median of the blocks' 90 % quantiles."),
    column("burnt", Wide, "Wei burnt; blobs are apart."),
    column("burnt_text", Text, FITS_NOT),
    column("tips", Wide, "Wei paid to the blocks' fee recipients."),
    column("tips_text", Text, FITS_NOT),
    column("failed_fees", Wide, "Wei that failed transactions paid."),
    column("failed_fees_text", Text, FITS_NOT),
    column("blob_count", Integer, "Blobs."),
    column("blob_burnt", Wide, "Wei burnt for blobs."),
    column("blob_burnt_text", Text, FITS_NOT),
];

/// `gas_hourly`.
pub const GAS_HOURLY: Table = Table {
    name: "gas_hourly",
    comment: "One row per hour whose blocks are all held: what gas cost in it.",
    columns: &concat::<1, 23, 24>(&[column("hour", Time, "The hour's first instant, UTC.")], &GAS),
};

/// `gas_daily`.
pub const GAS_DAILY: Table = Table {
    name: "gas_daily",
    comment: "One row per UTC day whose blocks are all held: what gas cost in it.",
    columns: &concat::<1, 23, 24>(&[column("day", Time, "The day's first instant, UTC.")], &GAS),
};

const SPENT: [Column; 7] = [
    column("label", Text, "Its name, if it has one."),
    column("transaction_count", Integer, "Transactions."),
    column("failed_count", Integer, "Those that failed."),
    column("gas_used", Long, "Gas they used."),
    column("fees", Wide, "Wei they paid: burnt, tips and for blobs."),
    column("fees_text", Text, FITS_NOT),
    column("last_block", Integer, "The last block with one of them."),
];

/// `gas_spenders`.
pub const GAS_SPENDERS: Table = Table {
    name: "gas_spenders",
    comment: "One row per UTC day and sender: the 100 that paid most for gas.",
    columns: &concat::<3, 7, 10>(
        &[
            column("day", Time, "The day's first instant, UTC."),
            column("rank", Integer, "1 for who paid most."),
            column("address", Text, "The sender."),
        ],
        &SPENT,
    ),
};

/// `gas_guzzlers`.
pub const GAS_GUZZLERS: Table = Table {
    name: "gas_guzzlers",
    comment: "One row per UTC day and contract: the 100 that transactions to them used most gas.",
    columns: &concat::<3, 7, 10>(
        &[
            column("day", Time, "The day's first instant, UTC."),
            column("rank", Integer, "1 for the one that used most."),
            column("address", Text, "Who was called with data, or created."),
        ],
        &SPENT,
    ),
};
