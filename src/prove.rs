//! Whether what was decoded is the chain.
//!
//! A [`Proved`] block is the only thing that [`crate::rows`] accepts: its header hashes to the
//! requested hash or the one that the next block refers to, its body and receipts hash to the roots
//! in the header, and its logs to the blooms. This stage does no I/O and reads no clock.

mod root;

use crate::decode::{Block, Log, blooms};
use alloy_primitives::{B256, Bloom, U256, U512};
use root::ordered_root;
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// What is known about the block beforehand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// The requested height.
    pub number: u64,
    /// The requested hash.
    pub hash: Option<B256>,
    /// The parent's hash.
    pub parent_hash: Option<B256>,
}

/// A failed check: block, what was checked, expected and found values.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The requested block.
    pub number: u64,
    /// What was checked.
    pub check: &'static str,
    /// From the header, or from the request.
    pub expected: String,
    /// Computed from the received bytes.
    pub found: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "block {}: {}: expected {}, found {}",
            self.number, self.check, self.expected, self.found
        )
    }
}

impl std::error::Error for Mismatch {}

/// A block of which every part was checked against its header.
#[derive(Debug)]
pub struct Proved {
    block: Block,
    blob_gas_price: Option<U256>,
}

impl Deref for Proved {
    type Target = Block;

    fn deref(&self) -> &Block {
        &self.block
    }
}

impl Proved {
    /// Wei per blob gas in this block; `None` before Cancun, and above 256 bits, which no
    /// transaction can offer.
    pub(crate) fn blob_gas_price(&self) -> Option<U256> {
        self.blob_gas_price
    }

    /// Every log with its index in the block and its transaction's index.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (u64, u64, &Log)> {
        self.block
            .receipts
            .iter()
            .enumerate()
            .flat_map(|(transaction_index, receipt)| {
                receipt.logs.iter().map(move |log| (transaction_index as u64, log))
            })
            .enumerate()
            .map(|(log_index, (transaction_index, log))| (log_index as u64, transaction_index, log))
    }
}

/// A chain's blob prices: which update fraction applies from when on (EIP-7840).
///
/// Source: `blobSchedule` and the fork times in the node's chain configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct BlobSchedule {
    /// Fork time in seconds since 1970, and `baseFeeUpdateFraction` from then on; ascending, and in
    /// geth's order of forks if two share a time. 0 stands for a fraction that cannot be read: blob
    /// prices from then on are not known.
    pub update_fractions: Vec<(u64, u64)>,
}

impl BlobSchedule {
    /// Reads a geth chain configuration (`admin_nodeInfo`, `protocols.eth.config`).
    pub(crate) fn from_config(config: &serde_json::Value) -> Self {
        let schedule = config["blobSchedule"].as_object().into_iter().flatten();
        let mut forks: Vec<_> = schedule
            .filter_map(|(fork, schedule)| {
                let time = &config[format!("{fork}Time")];
                // A fork that is not scheduled may have an entry, but no time.
                let time = (!time.is_null()).then(|| time.as_u64().unwrap_or(0))?;
                Some((
                    (time, fork_order(fork)),
                    schedule["baseFeeUpdateFraction"].as_u64().unwrap_or(0),
                ))
            })
            .collect();
        forks.sort_by_key(|(place, _)| *place);
        let update_fractions =
            forks.into_iter().map(|((time, _), fraction)| (time, fraction)).collect();
        Self { update_fractions }
    }

    /// Why blob prices may differ from the chain's, if the node's configuration shows it.
    pub(crate) fn fault(&self, config: &serde_json::Value) -> Option<String> {
        let unread = self.update_fractions.iter().find(|(_, fraction)| *fraction == 0);
        match unread {
            Some((time, _)) => Some(format!(
                "the entry from time {time} on cannot be read: blob prices are null from then on"
            )),
            None if self.update_fractions.is_empty() && !config["cancunTime"].is_null() => {
                Some("it is missing; using Cancun's".to_owned())
            }
            None => None,
        }
    }

    /// Wei per blob gas (EIP-4844, `get_base_fee_per_blob_gas`).
    fn price(&self, timestamp: u64, excess: u64) -> Option<U256> {
        let in_force = self.update_fractions.iter().rev().find(|(time, _)| *time <= timestamp);
        match in_force.map_or(UPDATE_FRACTION_CANCUN, |(_, fraction)| *fraction) {
            0 => None,
            fraction => fake_exponential(excess, fraction),
        }
    }
}

/// The position of a fork with a blob schedule among all (geth `params/config.go`,
/// `CheckConfigForkOrder`). An unknown one is of a newer geth, and comes last.
fn fork_order(fork: &str) -> (usize, u64) {
    let parameters_only = fork.strip_prefix("bpo").and_then(|count| count.parse().ok());
    let named = if parameters_only.is_some() { "bpo" } else { fork };
    let known = ["cancun", "prague", "osaka", "bpo", "amsterdam", "bogota"];
    let place = known.iter().position(|known| *known == named).unwrap_or(known.len());
    (place, parameters_only.unwrap_or(0))
}

/// `BLOB_BASE_FEE_UPDATE_FRACTION` (EIP-4844), for a node that does not report its schedule.
const UPDATE_FRACTION_CANCUN: u64 = 3_338_477;

/// e^(numerator/denominator), approximated as EIP-4844's `fake_exponential` with factor 1; `None`
/// if it exceeds 256 bits, and then it stops, because it would take forever. No term exceeds the
/// sum of 320 bits, so 512 bits do not overflow.
fn fake_exponential(numerator: u64, denominator: u64) -> Option<U256> {
    let (numerator, denominator) = (U512::from(numerator), U512::from(denominator));
    let limit = denominator << 256;
    let mut output = U512::ZERO;
    let mut term = denominator;
    let mut index = U512::from(1);
    while !term.is_zero() {
        output += term;
        if output >= limit {
            return None;
        }
        term = term * numerator / (denominator * index);
        index += U512::from(1);
    }
    U256::checked_from_limbs_slice((output / denominator).as_limbs())
}

/// Checks everything a block can be checked for.
///
/// # Errors
/// The first failed check, with the block as received.
pub fn prove(
    block: Block,
    expected: &Expected,
    schedule: &BlobSchedule,
) -> Result<Proved, Box<(Mismatch, Block)>> {
    match first_mismatch(&block, expected) {
        None => {
            let header = &block.header;
            let price = |excess| schedule.price(header.timestamp, excess);
            Ok(Proved { blob_gas_price: header.excess_blob_gas.and_then(price), block })
        }
        Some((check, wanted, found)) => Err(Box::new((
            Mismatch { number: expected.number, check, expected: wanted, found },
            block,
        ))),
    }
}

fn first_mismatch(block: &Block, expected: &Expected) -> Option<(&'static str, String, String)> {
    let header = &block.header;
    let differ = |check, wanted: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
        let (wanted, found) = (wanted.to_string(), found.to_string());
        (wanted != found).then_some((check, wanted, found))
    };
    let hash = |check, wanted: B256, found: B256| {
        if wanted == found { None } else { differ(check, &wanted, &found) }
    };
    differ("number", &expected.number, &header.number)
        .or_else(|| hash("header hash", expected.hash?, header.hash))
        .or_else(|| hash("parent hash", expected.parent_hash?, header.parent_hash))
        .or_else(|| {
            let raw: Vec<_> =
                block.transactions.iter().map(|transaction| &transaction.raw).collect();
            hash("transactions root", header.transactions_root, ordered_root(&raw))
        })
        .or_else(|| hash("receipts root", header.receipts_root, ordered_root(&block.raw_receipts)))
        .or_else(|| hash("uncles hash", header.uncles_hash, block.uncles_hash))
        .or_else(|| match (header.withdrawals_root, &block.withdrawals) {
            (None, None) => None,
            (Some(root), Some(withdrawals)) => {
                let raw: Vec<_> = withdrawals.iter().map(|withdrawal| &withdrawal.raw).collect();
                hash("withdrawals root", root, ordered_root(&raw))
            }
            (root, withdrawals) => {
                let word = |there| if there { "withdrawals" } else { "no withdrawals" };
                differ("withdrawals root", &word(root.is_some()), &word(withdrawals.is_some()))
            }
        })
        .or_else(|| bloom_mismatch(block))
        .or_else(|| receipts_mismatch(block))
}

/// Every receipt's bloom against its logs, and the header's against all of them.
fn bloom_mismatch(block: &Block) -> Option<(&'static str, String, String)> {
    if !block.blooms_are_made {
        let found = blooms(block.receipts.iter().map(|receipt| &receipt.logs[..]));
        for (receipt, found) in block.receipts.iter().zip(found) {
            if found != receipt.logs_bloom {
                return Some(("receipt bloom", receipt.logs_bloom.to_string(), found.to_string()));
            }
        }
    }
    let all = block.receipts.iter().fold(Bloom::ZERO, |all, receipt| all | receipt.logs_bloom);
    (all != block.header.logs_bloom)
        .then(|| ("logs bloom", block.header.logs_bloom.to_string(), all.to_string()))
}

/// What the roots alone leave open: each receipt has its transaction's type, and cumulative gas
/// only grows.
fn receipts_mismatch(block: &Block) -> Option<(&'static str, String, String)> {
    let mut gas_before = 0;
    for (transaction, receipt) in block.transactions.iter().zip(&block.receipts) {
        if transaction.kind != receipt.kind {
            return Some(("receipt type", transaction.kind.to_string(), receipt.kind.to_string()));
        }
        if receipt.cumulative_gas_used < gas_before {
            return Some((
                "cumulative gas",
                format!("at least {gas_before}"),
                receipt.cumulative_gas_used.to_string(),
            ));
        }
        gas_before = receipt.cumulative_gas_used;
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Wei per blob gas in a block with this excess, on a chain of this configuration.
    fn blob_price(config: &Value, excess: u64) -> Option<U256> {
        BlobSchedule::from_config(config).price(1_700_000_000, excess)
    }

    /// A configuration with these forks at these times, each with its update fraction.
    fn forks(forks: &[(&str, u64, u64)]) -> Value {
        let mut config = json!({"blobSchedule": {}});
        for (fork, time, fraction) in forks {
            config[format!("{fork}Time")] = json!(time);
            config["blobSchedule"][fork] =
                json!({"target": 6, "max": 9, "baseFeeUpdateFraction": fraction});
        }
        config
    }

    #[test]
    fn of_forks_at_one_time_the_later_one_prices_blobs() {
        let check = |forks_at: &[(&str, u64, u64)], in_force: u64| {
            let expected = blob_price(&forks(&[("cancun", 0, in_force)]), 60_000_000);
            assert_eq!(blob_price(&forks(forks_at), 60_000_000), expected, "{forks_at:?}");
        };
        check(&[("cancun", 0, 3_338_477), ("prague", 0, 5_007_716)], 5_007_716);
        check(&[("cancun", 0, 5_007_716), ("prague", 0, 3_338_477)], 3_338_477);
        check(
            &[("cancun", 0, 3_338_477), ("prague", 0, 5_007_716), ("bpo1", 0, 4_000_000)],
            4_000_000,
        );
        check(
            &[("prague", 0, 5_007_716), ("bpo1", 0, 9_000_000), ("bpo2", 0, 8_346_193)],
            8_346_193,
        );
        check(
            &[("bpo10", 0, 4_000_000), ("bpo9", 0, 9_000_000), ("osaka", 0, 9_000_001)],
            4_000_000,
        );
        check(&[("amsterdam", 0, 4_000_000), ("bpo5", 0, 9_000_000)], 4_000_000);
        // A fork of a newer geth comes after all known ones; none applies before its time.
        check(&[("afork", 0, 4_000_000), ("bpo2", 0, 9_000_000)], 4_000_000);
        check(
            &[
                ("bpo1", 1_700_000_001, 4_000_000),
                ("prague", 1_699_999_999, 9_000_000),
                ("cancun", 0, 1),
            ],
            9_000_000,
        );
    }

    #[test]
    fn a_blob_schedule_that_cannot_be_read_gives_no_price_from_then_on() {
        for fraction in
            [json!(null), json!(-1), json!(1.5), json!("5007716"), json!([5_007_716]), json!(0)]
        {
            let mut config =
                forks(&[("cancun", 0, 3_338_477), ("prague", 1_600_000_000, 5_007_716)]);
            config["blobSchedule"]["prague"]["baseFeeUpdateFraction"] = fraction.clone();
            assert_eq!(blob_price(&config, 60_000_000), None, "{fraction}");
            assert!(
                BlobSchedule::from_config(&config).fault(&config).unwrap().contains("1600000000"),
                "{fraction}"
            );
            // A future fork changes nothing, nor does one without a time.
            let expected = blob_price(&forks(&[("cancun", 0, 3_338_477)]), 60_000_000);
            for time in [json!(u64::MAX), json!(null)] {
                config["pragueTime"] = time;
                assert_eq!(blob_price(&config, 60_000_000), expected, "{fraction}");
            }
        }
        let config = json!({"cancunTime": 0});
        assert!(BlobSchedule::from_config(&config).fault(&config).unwrap().contains("missing"));
        assert_eq!(BlobSchedule::from_config(&json!({})).fault(&json!({})), None);
    }

    #[test]
    fn a_blob_price_is_exact_up_to_256_bits_and_never_takes_long() {
        let check = |excess: u64, fraction: u64, expected: Option<&str>| {
            let expected = expected.map(|digits| U256::from_str_radix(digits, 10).unwrap());
            assert_eq!(
                blob_price(&forks(&[("cancun", 0, fraction)]), excess),
                expected,
                "{excess} / {fraction}"
            );
        };
        // As geth's `fakeExponential`, which has no limit.
        check(0, 3_338_477, Some("1"));
        check(10_000_000, 3_338_477, Some("19"));
        check(
            590_000_000,
            3_338_477,
            Some("56453096389186310890362940840816970060244358079304756919162603450642909065741"),
        );
        check(
            177,
            1,
            Some("74149706136313717636432824801193834870097785191721245871950585387062543475577"),
        );
        check(u64::MAX, u64::MAX, Some("2"));
        check(u64::MAX, 1 << 57, Some("38877084059945950652462244396535240705810792562261197162"));
        check(593_000_000, 3_338_477, None);
        check(u64::MAX, 3_338_477, None);
        check(u64::MAX, 1, None);
    }
}
