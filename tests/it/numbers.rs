//! Numbers at the edge of what RLP and the EVM permit.

use alloy_primitives::{Address, B256, Bloom, U256, keccak256};
use alloy_rlp::{Encodable, Header};
use alloy_trie::EMPTY_ROOT_HASH;
use serde_json::{Value, json};
use spyhop::decode::{Block, Depth};
use spyhop::prove::{BlobSchedule, Expected, prove};

/// Places of a header's items.
const EXCESS_BLOB_GAS: usize = 18;

/// An RLP list of items that are encoded.
fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let payload = items.concat();
    let mut list = Vec::new();
    Header { list: true, payload_length: payload.len() }.encode(&mut list);
    [list, payload].concat()
}

/// A block of Cancun with nothing in it, and these items of its header instead of the usual ones.
fn empty_block(items: &[(usize, U256)]) -> Vec<u8> {
    let zero = B256::ZERO;
    let mut header: Vec<Vec<u8>> = [zero, keccak256(list(&[]))].iter().map(alloy_rlp::encode).collect();
    header.push(alloy_rlp::encode(Address::ZERO));
    header.extend([zero, EMPTY_ROOT_HASH, EMPTY_ROOT_HASH].iter().map(alloy_rlp::encode));
    header.push(alloy_rlp::encode(Bloom::ZERO));
    header.extend([0u64, 0, 30_000_000, 0, 1_700_000_000].iter().map(alloy_rlp::encode));
    header.push(alloy_rlp::encode(&b"extra"[..]));
    header.push(alloy_rlp::encode(zero));
    header.push(alloy_rlp::encode(&[0u8; 8][..]));
    header.push(alloy_rlp::encode(7u64));
    header.push(alloy_rlp::encode(EMPTY_ROOT_HASH));
    header.extend([0u64, 0].iter().map(alloy_rlp::encode));
    header.push(alloy_rlp::encode(zero));
    for (place, number) in items {
        header[*place] = alloy_rlp::encode(number);
    }
    list(&[list(&header), list(&[]), list(&[]), list(&[])])
}

/// Wei per blob gas with so much excess, on a chain of this configuration.
fn blob_price(config: &Value, excess: u64) -> Option<U256> {
    let raw = empty_block(&[(EXCESS_BLOB_GAS, U256::from(excess))]);
    let block = Block::decode(raw.into(), Vec::new(), Depth::Fields).unwrap();
    prove(block, &Expected::default(), &BlobSchedule::from_config(config)).unwrap().blob_gas_price()
}

/// A configuration with these forks at these times, each with its update fraction.
fn forks(forks: &[(&str, u64, u64)]) -> Value {
    let mut config = json!({"blobSchedule": {}});
    for (fork, time, fraction) in forks {
        config[format!("{fork}Time")] = json!(time);
        config["blobSchedule"][fork] = json!({"target": 6, "max": 9, "baseFeeUpdateFraction": fraction});
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
    check(&[("cancun", 0, 3_338_477), ("prague", 0, 5_007_716), ("bpo1", 0, 4_000_000)], 4_000_000);
    check(&[("prague", 0, 5_007_716), ("bpo1", 0, 9_000_000), ("bpo2", 0, 8_346_193)], 8_346_193);
    check(&[("bpo10", 0, 4_000_000), ("bpo9", 0, 9_000_000), ("osaka", 0, 9_000_001)], 4_000_000);
    check(&[("amsterdam", 0, 4_000_000), ("bpo5", 0, 9_000_000)], 4_000_000);
    // One of a newer geth comes after all that are known here; none is in force before its time.
    check(&[("afork", 0, 4_000_000), ("bpo2", 0, 9_000_000)], 4_000_000);
    check(&[("bpo1", 1_700_000_001, 4_000_000), ("prague", 1_699_999_999, 9_000_000), ("cancun", 0, 1)], 9_000_000);
}

#[test]
fn a_blob_price_is_exact_up_to_256_bits_and_never_takes_long() {
    let check = |excess: u64, fraction: u64, expected: Option<&str>| {
        let expected = expected.map(|digits| U256::from_str_radix(digits, 10).unwrap());
        assert_eq!(blob_price(&forks(&[("cancun", 0, fraction)]), excess), expected, "{excess} / {fraction}");
    };
    // As geth's `fakeExponential`, which has no limit.
    check(0, 3_338_477, Some("1"));
    check(10_000_000, 3_338_477, Some("19"));
    check(
        590_000_000,
        3_338_477,
        Some("56453096389186310890362940840816970060244358079304756919162603450642909065741"),
    );
    check(177, 1, Some("74149706136313717636432824801193834870097785191721245871950585387062543475577"));
    check(u64::MAX, u64::MAX, Some("2"));
    check(u64::MAX, 1 << 57, Some("38877084059945950652462244396535240705810792562261197162"));
    check(593_000_000, 3_338_477, None);
    check(u64::MAX, 3_338_477, None);
    check(u64::MAX, 1, None);
}
