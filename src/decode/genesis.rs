//! The start of a chain: the accounts of its genesis block as geth stores them, and their state
//! root.
//!
//! Source: geth `core/types/account.go`, `GenesisAlloc`: JSON by address; balance and nonce decimal
//! or `0x`.

use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, Nibbles, TrieAccount};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The accounts of a genesis block.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Wei of each account that has any, by address.
    pub balances: Vec<(Address, U256)>,
    /// The root of the resulting state, which is in the genesis block's header.
    pub state_root: B256,
}

#[derive(Deserialize)]
struct GenesisAccount {
    balance: String,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    storage: BTreeMap<String, String>,
}

impl Allocation {
    /// Decodes the genesis block's state from geth's database.
    pub(crate) fn decode(json: &[u8]) -> Result<Self> {
        let accounts: BTreeMap<String, GenesisAccount> =
            serde_json::from_slice(json).context("genesis allocation")?;
        let mut balances = Vec::new();
        let mut leaves = BTreeMap::new();
        for (address, account) in &accounts {
            let address: Address =
                address.parse().with_context(|| format!("genesis account {address}"))?;
            let account = account.state().with_context(|| format!("genesis account {address}"))?;
            if !account.balance.is_zero() {
                balances.push((address, account.balance));
            }
            leaves.insert(keccak256(address), alloy_rlp::encode(account));
        }
        balances.sort_unstable();
        Ok(Self { balances, state_root: root(leaves) })
    }
}

impl GenesisAccount {
    fn state(&self) -> Result<TrieAccount> {
        let code_hash = match &self.code {
            Some(code) => keccak256(const_hex::decode(code).context("code")?),
            None => KECCAK256_EMPTY,
        };
        let mut slots = BTreeMap::new();
        for (key, value) in &self.storage {
            let value = number(value).context("storage")?;
            if !value.is_zero() {
                slots.insert(
                    keccak256(number(key).context("storage")?.to_be_bytes::<32>()),
                    alloy_rlp::encode(value),
                );
            }
        }
        Ok(TrieAccount {
            nonce: self
                .nonce
                .as_deref()
                .map_or(Ok(U256::ZERO), number)
                .context("nonce")?
                .try_into()?,
            balance: number(&self.balance).context("balance")?,
            storage_root: root(slots),
            code_hash,
        })
    }
}

/// A number in either notation.
fn number(text: &str) -> Result<U256> {
    Ok(match text.strip_prefix("0x") {
        Some("") => U256::ZERO,
        Some(digits) => U256::from_str_radix(digits, 16)?,
        None => U256::from_str_radix(text, 10)?,
    })
}

/// The root of the trie with these leaves, by hashed key.
fn root(leaves: BTreeMap<B256, Vec<u8>>) -> B256 {
    if leaves.is_empty() {
        return EMPTY_ROOT_HASH;
    }
    let mut builder = HashBuilder::default();
    for (key, value) in leaves {
        builder.add_leaf(Nibbles::unpack(key), &value);
    }
    builder.root()
}
