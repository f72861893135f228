//! How a chain issues ether with proof of work, and its DAO fork.

use crate::decode::Header;
use alloy_primitives::U256;
use serde::{Deserialize, Serialize};

/// From which block on a chain pays which reward.
///
/// Source: geth `consensus/ethash/consensus.go`, `accumulateRewards`, and `params/config.go`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Issuance {
    /// Whether the chain is Clique, which issues no ether.
    pub clique: bool,
    /// From here on the reward is 3 ether, before 5.
    pub byzantium: Option<u64>,
    /// From here on 2 ether.
    pub constantinople: Option<u64>,
    /// The block that moves the DAO's ether.
    pub dao_fork: Option<u64>,
}

impl Issuance {
    /// Mainnet's, for a node that does not report its chain's configuration.
    pub(crate) const MAINNET: Self = Self {
        clique: false,
        byzantium: Some(4_370_000),
        constantinople: Some(7_280_000),
        dao_fork: Some(1_920_000),
    };

    /// Reads a geth chain configuration (`admin_nodeInfo`, `protocols.eth.config`).
    pub(crate) fn from_config(config: &serde_json::Value) -> Self {
        let block = |name: &str| config[name].as_u64();
        Self {
            clique: config["clique"].is_object(),
            byzantium: block("byzantiumBlock"),
            constantinople: block("constantinopleBlock"),
            dao_fork: block("daoForkBlock").filter(|_| config["daoForkSupport"] == true),
        }
    }

    /// The block's own reward in wei, without uncles; none after the merge, and for the genesis
    /// block.
    fn reward(&self, header: &Header) -> Option<U256> {
        if self.clique || header.number == 0 || header.difficulty.is_zero() {
            return None;
        }
        let since = |fork: Option<u64>| fork.is_some_and(|fork| fork <= header.number);
        let ether: u64 = match () {
            () if since(self.constantinople) => 2,
            () if since(self.byzantium) => 3,
            () => 5,
        };
        Some(U256::from(ether) * U256::from(1_000_000_000_000_000_000u64))
    }

    /// Wei for the maker of each uncle, and for the maker of the block, including a thirty-second
    /// for each uncle.
    pub(super) fn rewards(&self, header: &Header, uncles: &[Header]) -> Option<(Vec<U256>, U256)> {
        let reward = self.reward(header)?;
        let eighths = |uncle: &Header| {
            U256::from(uncle.number.saturating_add(8).saturating_sub(header.number))
        };
        let for_uncles =
            uncles.iter().map(|uncle| eighths(uncle) * reward / U256::from(8)).collect();
        let for_block = reward + reward / U256::from(32) * U256::from(uncles.len());
        Some((for_uncles, for_block))
    }
}
