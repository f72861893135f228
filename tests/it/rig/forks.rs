//! The forks of a test chain, and its genesis.

use super::contracts;
use super::transaction;
use serde_json::{Value, json};

/// The chain ID of signed transactions.
pub const CHAIN_ID: u64 = 1337;

/// The first block of each fork from the merge on; earlier forks are all active at genesis, as the
/// beacon engine requires.
#[derive(Clone, Copy, Debug)]
pub struct Forks {
    pub shanghai: u64,
    pub cancun: u64,
    pub prague: u64,
    pub osaka: u64,
    pub bpo1: u64,
    pub bpo2: u64,
    pub amsterdam: Option<u64>,
    /// Makes this chain's genesis differ from others.
    pub salt: u64,
    /// Timestamp of the genesis block.
    pub genesis_time: u64,
    /// Seconds between two blocks.
    pub block_time: u64,
}

impl Forks {
    /// All forks but Amsterdam, active from block 1 on.
    pub const OSAKA: Self = Self {
        shanghai: 0,
        cancun: 0,
        prague: 0,
        osaka: 0,
        bpo1: 0,
        bpo2: 0,
        amsterdam: None,
        salt: 0,
        genesis_time: 1_700_000_000,
        block_time: 12,
    };

    /// One fork after the other, every few blocks.
    pub const ALL: Self = Self {
        shanghai: 4,
        cancun: 8,
        prague: 12,
        osaka: 16,
        bpo1: 20,
        bpo2: 24,
        amsterdam: Some(28),
        ..Self::OSAKA
    };

    /// Timestamp of a block.
    pub fn time(&self, number: u64) -> u64 {
        self.genesis_time + number * self.block_time
    }

    /// The genesis file for `geth init`.
    pub fn genesis(&self) -> Value {
        let blobs = |target: u64, max: u64, fraction: u64| -> Value {
            json!({"target": target, "max": max, "baseFeeUpdateFraction": fraction})
        };
        let time = |number: u64| if number == 0 { 0 } else { self.time(number) };
        let mut config = json!({
            "chainId": CHAIN_ID,
            "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
            "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0,
            "berlinBlock": 0, "londonBlock": 0, "mergeNetsplitBlock": 0,
            "terminalTotalDifficulty": 0,
            "shanghaiTime": time(self.shanghai), "cancunTime": time(self.cancun),
            "pragueTime": time(self.prague), "osakaTime": time(self.osaka),
            "bpo1Time": time(self.bpo1), "bpo2Time": time(self.bpo2),
            "blobSchedule": {
                "cancun": blobs(3, 6, 3_338_477), "prague": blobs(6, 9, 5_007_716),
                "osaka": blobs(6, 9, 5_007_716), "bpo1": blobs(10, 15, 8_346_193),
                "bpo2": blobs(14, 21, 11_684_671),
            },
        });
        if let Some(amsterdam) = self.amsterdam {
            config["amsterdamTime"] = json!(time(amsterdam));
        }
        let mut alloc = contracts::alloc();
        for sender in 0..transaction::SENDERS {
            // 10^30 wei each.
            alloc.insert(
                format!("{:?}", transaction::sender(sender)),
                json!({"balance": "0xc9f2c9cd04674edea40000000"}),
            );
        }
        json!({
            "config": config,
            "timestamp": format!("{:#x}", self.genesis_time),
            "extraData": format!("0x{:016x}", self.salt),
            "gasLimit": "0x3938700",
            "difficulty": "0x0",
            "alloc": alloc,
        })
    }

    /// Maximum blobs of a block, from Cancun on: as in the schedule of [`Self::genesis`].
    pub fn blobs_max(&self, number: u64) -> usize {
        let forks = [(self.bpo2, 21), (self.bpo1, 15), (self.prague, 9), (self.cancun, 6)];
        forks.into_iter().find(|(first, _)| number >= *first).map_or(0, |(_, max)| max)
    }

    /// Whether the fork that starts at `first` is active at `number`.
    pub fn active(first: u64, number: u64) -> bool {
        number >= first
    }
}
