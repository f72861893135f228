//! Block headers, Frontier to Amsterdam.

use super::Signature;
use super::rlp::Items;
use alloy_primitives::{Address, B64, B256, Bloom, Bytes, U256, keccak256};
use alloy_rlp::Encodable;
use anyhow::{Context, Result};

/// Index of the extra data among a header's items.
const EXTRA_DATA: usize = 12;

/// A block header. The optional fields are those that later forks appended, in their order (geth
/// `core/types/block.go`).
#[derive(Debug)]
pub struct Header {
    /// keccak-256 of the header's RLP.
    pub hash: B256,
    /// The header's RLP.
    pub raw: Bytes,
    pub parent_hash: B256,
    pub uncles_hash: B256,
    pub miner: Address,
    pub state_root: B256,
    pub transactions_root: B256,
    pub receipts_root: B256,
    pub logs_bloom: Bloom,
    pub difficulty: U256,
    pub number: u64,
    pub gas_limit: u64,
    pub gas_used: u64,
    pub timestamp: u64,
    pub extra_data: Bytes,
    pub mix_hash: B256,
    pub nonce: B64,
    /// London (EIP-1559), wei.
    pub base_fee_per_gas: Option<U256>,
    /// Shanghai (EIP-4895).
    pub withdrawals_root: Option<B256>,
    /// Cancun (EIP-4844).
    pub blob_gas_used: Option<u64>,
    /// Cancun (EIP-4844).
    pub excess_blob_gas: Option<u64>,
    /// Cancun (EIP-4788).
    pub parent_beacon_block_root: Option<B256>,
    /// Prague (EIP-7685).
    pub requests_hash: Option<B256>,
    /// Amsterdam (EIP-7928).
    pub block_access_list_hash: Option<B256>,
    /// Amsterdam (EIP-7843).
    pub slot_number: Option<u64>,
    /// RLP items after the last field known here, undecoded.
    pub extra_fields: Option<Bytes>,
}

impl Header {
    /// Decodes one header and hashes it.
    pub(super) fn decode(raw: Bytes) -> Result<Self> {
        let mut items = Items::list(&raw)?;
        macro_rules! field {
            ($name:literal, $take:ident) => {
                items.$take().context($name)?
            };
        }
        macro_rules! optional {
            ($name:literal, $take:ident) => {
                if items.rest().is_empty() { None } else { Some(items.$take().context($name)?) }
            };
        }
        Ok(Self {
            hash: keccak256(&raw),
            parent_hash: field!("parent hash", fixed),
            uncles_hash: field!("uncles hash", fixed),
            miner: field!("miner", fixed),
            state_root: field!("state root", fixed),
            transactions_root: field!("transactions root", fixed),
            receipts_root: field!("receipts root", fixed),
            logs_bloom: field!("bloom", fixed),
            difficulty: field!("difficulty", wide),
            number: field!("number", integer),
            gas_limit: field!("gas limit", integer),
            gas_used: field!("gas used", integer),
            timestamp: field!("timestamp", integer),
            extra_data: raw.slice_ref(field!("extra data", bytes)),
            mix_hash: field!("mix hash", fixed),
            nonce: field!("nonce", fixed),
            base_fee_per_gas: optional!("base fee", wide),
            withdrawals_root: optional!("withdrawals root", fixed),
            blob_gas_used: optional!("blob gas used", integer),
            excess_blob_gas: optional!("excess blob gas", integer),
            parent_beacon_block_root: optional!("parent beacon block root", fixed),
            requests_hash: optional!("requests hash", fixed),
            block_access_list_hash: optional!("block access list hash", fixed),
            slot_number: optional!("slot number", integer),
            extra_fields: (!items.rest().is_empty()).then(|| raw.slice_ref(items.rest())),
            raw: raw.clone(),
        })
    }

    /// The signer of a block on a Clique chain (EIP-225): the seal at the end of the extra data
    /// signs the header without it. There the header's `miner` has another meaning, and tips go to
    /// the signer.
    pub(crate) fn signer(&self) -> Option<Address> {
        let (rest, seal) = self.extra_data.split_last_chunk::<65>()?;
        let mut signed = Vec::with_capacity(self.raw.len());
        for (index, item) in Items::list(&self.raw).ok()?.enumerate() {
            match index {
                EXTRA_DATA => rest.encode(&mut signed),
                _ => signed.extend_from_slice(item.ok()?),
            }
        }
        let mut list = Vec::new();
        alloy_rlp::Header { list: true, payload_length: signed.len() }.encode(&mut list);
        list.extend_from_slice(&signed);
        let signature = Signature {
            hash: keccak256(list),
            r: U256::from_be_slice(&seal[..32]),
            s: U256::from_be_slice(&seal[32..64]),
            y_parity: seal[64] == 1,
        };
        signature.signer().ok()
    }
}
