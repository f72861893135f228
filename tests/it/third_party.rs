//! Third-party data with third-party answers: blocks of mainnet, and the execution API's test
//! chain.
//!
//! They are outside the project, where `SPYHOP_FIXTURES` says; without them these tests print that
//! and pass, but fail under CI.

mod ethereum_etl;
mod execution_apis;
mod geth_json;
pub mod portal;
mod traces;

use crate::fake_geth::{FakeBlock, FakeGeth};
use crate::rig::{Published, Spyhop, fixtures};
use alloy_primitives::U256;
use serde_json::{Value, json};
use spyhop::rows::{Batch, Options, Selection};
use spyhop::store::{BlockLink, Chain, FORMAT, Identity, Store, TailBlock, tail};
use std::path::Path;

/// Makes `spyhop watch` read one block of mainnet from a socket, and opens what it publishes.
///
/// The volume's chain record: mainnet's id, and the fake node's block 0.
fn mainnet_as_faked() -> Chain {
    let identity = Identity { chain_id: 1.into(), genesis_hash: FakeBlock::filler(0, 1).hash };
    Chain {
        format: FORMAT,
        identity,
        finalized_seen: false,
        blob_schedule: None,
        issuance: None,
        weth: None,
    }
}

/// This block is alone in its chain, and `watch` starts at a multiple of 100. If the block is not
/// one, the volume already has those before it: tail files without rows, the last with this block's
/// parent hash.
fn watch_one(
    directory: &Path,
    raw_block: Vec<u8>,
    raw_receipts: Vec<Vec<u8>>,
    traces: Option<Value>,
) -> Published {
    let block = FakeBlock::from_raw(raw_block, raw_receipts);
    let (number, data) = (block.number, directory.join("data"));
    let below: Vec<_> = (number / 100 * 100..number)
        .map(|below| {
            let hash = |height: u64| {
                if height + 1 == number {
                    block.parent_hash
                } else {
                    alloy_primitives::keccak256(height.to_be_bytes())
                }
            };
            let (parent_hash, timestamp) =
                (hash(below.wrapping_sub(1)), block.timestamp - 12 * (number - below));
            TailBlock {
                link: BlockLink { number: below, hash: hash(below), parent_hash, timestamp },
                tables: Selection::default(),
                batches: Batch::new(Options::default()).finish().unwrap(),
                gaps: Vec::new(),
            }
        })
        .collect();
    if !below.is_empty() {
        let store = Store::open(&data).unwrap();
        store.set_chain(&mainnet_as_faked()).unwrap();
        tail::write(&store, &below).unwrap();
    }
    let fake = FakeGeth::start(directory);
    {
        let mut chain = fake.chain();
        chain.chain_id = U256::from(1);
        // Source: geth `params/config.go`, `MainnetChainConfig`.
        chain.config = json!({
            "chainId": 1,
            "byzantiumBlock": 4_370_000,
            "constantinopleBlock": 7_280_000,
            "cancunTime": 1_710_338_135,
            "pragueTime": 1_746_612_311,
            "blobSchedule": {
                "cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3_338_477},
                "prague": {"target": 6, "max": 9, "baseFeeUpdateFraction": 5_007_716},
            },
        });
        chain.push(FakeBlock::filler(0, 1));
        let hash = chain.push(block);
        chain.traces.extend(traces.map(|traces| (hash, traces)));
    }
    Spyhop::watch(fake.path(), &data).args(&["--from", &number.to_string(), "--once"]).succeed();
    let published = Published::open(&data);
    assert_eq!(published.number("SELECT count(*) FROM blocks"), 1);
    published
}
