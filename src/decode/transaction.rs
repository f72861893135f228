//! Transactions of types 0 to 4, and the sender of each.

use super::{Depth, rlp::Items};
use alloy_consensus::transaction::RlpEcdsaDecodableTx;
use alloy_consensus::{EthereumTxEnvelope, Transaction as _, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_rlp::{Encodable, Header};
use anyhow::{Context, Result, bail, ensure};
use secp256k1::{
    Message,
    ecdsa::{RecoverableSignature, RecoveryId},
};

/// One transaction of a block.
#[derive(Debug)]
pub struct Transaction {
    /// The EIP-2718 envelope: what the transactions root is made of.
    pub raw: Bytes,
    /// keccak-256 of [`Self::raw`].
    pub hash: B256,
    /// 0 for legacy, else the envelope's type byte.
    pub kind: u8,
    /// `None` where the type is not known here, or its fields do not fit: it is then stored as [`Self::raw`] alone. `None` too
    /// where they were not asked for.
    pub fields: Option<Fields>,
    /// Who signed it; `None` until recovered, and where `fields` is.
    pub sender: Option<Address>,
}

/// The fields of a known type. Wei where nothing else is said.
#[derive(Debug)]
#[expect(missing_docs, reason = "the execution API's own names")]
pub struct Fields {
    pub chain_id: Option<u64>,
    pub nonce: u64,
    pub gas_limit: u64,
    /// Types 0 and 1.
    pub gas_price: Option<u128>,
    /// Types 2 and later.
    pub max_fee_per_gas: Option<u128>,
    pub max_priority_fee_per_gas: Option<u128>,
    /// Type 3.
    pub max_fee_per_blob_gas: Option<u128>,
    /// `None` creates a contract.
    pub to: Option<Address>,
    pub value: U256,
    pub input: Bytes,
    /// Types 1 and later.
    pub access_list: Option<Vec<(Address, Vec<B256>)>>,
    /// Type 3.
    pub blob_versioned_hashes: Option<Vec<B256>>,
    /// Type 4 (EIP-7702).
    pub authorization_list: Option<Vec<Authorization>>,
    /// As signed: 27, 28, or with the chain id folded in for legacy; 0 or 1 for the other types.
    pub v: U256,
    pub r: U256,
    pub s: U256,
    /// What was signed.
    signing_hash: B256,
    /// The public key's parity, out of `v`.
    y_parity: bool,
}

/// One authorization of a type 4 transaction. All of it is set freely by the sender.
#[derive(Debug)]
#[expect(missing_docs, reason = "EIP-7702's own names")]
pub struct Authorization {
    pub chain_id: U256,
    pub address: Address,
    pub nonce: u64,
    pub y_parity: u8,
    pub r: U256,
    pub s: U256,
}

impl Transaction {
    /// Decodes one envelope. An unknown type is not an error: it keeps its bytes.
    pub fn decode(raw: Bytes, depth: Depth) -> Result<Self> {
        let kind = match raw.first().context("empty transaction")? {
            0xc0.. => 0,
            kind => *kind,
        };
        let fields = match depth {
            Depth::Fields => Fields::decode(&raw, kind).ok(),
            Depth::Hashes => None,
        };
        // A legacy transaction has been a plain list since Frontier: one that cannot be read is no unknown type.
        ensure!(
            fields.is_some() || depth == Depth::Hashes || Items::list(&raw).is_err(),
            "legacy transaction cannot be read"
        );
        Ok(Self { hash: keccak256(&raw), raw, kind, fields, sender: None })
    }

    /// Recovers [`Self::sender`] with libsecp256k1; does nothing for an unknown type.
    pub fn recover_sender(&mut self) -> Result<()> {
        if let Some(fields) = &self.fields {
            self.sender = Some(fields.recover()?);
        }
        Ok(())
    }

    /// How many blobs it carries.
    pub fn blob_count(&self) -> u64 {
        self.fields
            .as_ref()
            .and_then(|fields| fields.blob_versioned_hashes.as_ref())
            .map_or(0, |hashes| hashes.len() as u64)
    }
}

impl Fields {
    fn decode(raw: &Bytes, kind: u8) -> Result<Self> {
        let envelope = envelope(raw, kind)?;
        let (signing_hash, v, r, s) = signed_part(raw, kind)?;
        let dynamic = envelope.is_dynamic_fee();
        let signature = envelope.signature();
        Ok(Self {
            chain_id: envelope.chain_id(),
            nonce: envelope.nonce(),
            gas_limit: envelope.gas_limit(),
            gas_price: (!dynamic).then(|| envelope.gas_price()).flatten(),
            max_fee_per_gas: dynamic.then(|| envelope.max_fee_per_gas()),
            max_priority_fee_per_gas: envelope.max_priority_fee_per_gas(),
            max_fee_per_blob_gas: envelope.max_fee_per_blob_gas(),
            to: match envelope.kind() {
                TxKind::Create => None,
                TxKind::Call(to) => Some(to),
            },
            value: envelope.value(),
            input: envelope.input().clone(),
            access_list: envelope
                .access_list()
                .map(|list| list.iter().map(|item| (item.address, item.storage_keys.clone())).collect()),
            blob_versioned_hashes: envelope.blob_versioned_hashes().map(<[_]>::to_vec),
            authorization_list: envelope.authorization_list().map(|list| {
                list.iter()
                    .map(|signed| Authorization {
                        chain_id: signed.chain_id,
                        address: signed.address,
                        nonce: signed.nonce,
                        y_parity: signed.y_parity(),
                        r: signed.r(),
                        s: signed.s(),
                    })
                    .collect()
            }),
            v,
            r,
            s,
            signing_hash,
            y_parity: signature.v(),
        })
    }

    fn recover(&self) -> Result<Address> {
        let mut compact = [0; 64];
        compact[..32].copy_from_slice(&self.r.to_be_bytes::<32>());
        compact[32..].copy_from_slice(&self.s.to_be_bytes::<32>());
        recover(&compact, self.y_parity, self.signing_hash)
    }
}

/// Who signed a hash, with `r` and `s` one after the other.
pub(super) fn recover(compact: &[u8; 64], y_parity: bool, signing_hash: B256) -> Result<Address> {
    let recovery_id = if y_parity { RecoveryId::One } else { RecoveryId::Zero };
    let signature = RecoverableSignature::from_compact(compact, recovery_id)?;
    let key = signature.recover_ecdsa(Message::from_digest(signing_hash.0))?;
    Ok(Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..]))
}

/// The transaction and its signature. Decoded without its envelope, for with it alloy computes the hash, which is known.
fn envelope(raw: &[u8], kind: u8) -> Result<EthereumTxEnvelope<TxEip4844>> {
    let mut rest = if kind == 0 { raw } else { &raw[1..] };
    let envelope = match kind {
        0 => EthereumTxEnvelope::Legacy(TxLegacy::rlp_decode_signed(&mut rest)?),
        1 => EthereumTxEnvelope::Eip2930(TxEip2930::rlp_decode_signed(&mut rest)?),
        2 => EthereumTxEnvelope::Eip1559(TxEip1559::rlp_decode_signed(&mut rest)?),
        3 => EthereumTxEnvelope::Eip4844(TxEip4844::rlp_decode_signed(&mut rest)?),
        4 => EthereumTxEnvelope::Eip7702(TxEip7702::rlp_decode_signed(&mut rest)?),
        kind => bail!("type {kind} is not known"),
    };
    ensure!(rest.is_empty(), "{} bytes after the transaction", rest.len());
    Ok(envelope)
}

/// The hash that was signed, and `v`, `r`, `s`: from the transaction's own slices. What was signed is the list without its last
/// three items, and for a legacy transaction with a chain id (EIP-155) with that id and two zeros in their place.
fn signed_part(raw: &[u8], kind: u8) -> Result<(B256, U256, U256, U256)> {
    let list = if kind == 0 { raw } else { &raw[1..] };
    let mut items = Items::list(list)?;
    let payload = items.rest();
    let fields = items.clone().count();
    for _ in 0..fields.checked_sub(3).context("too few fields")? {
        items.next_item()?;
    }
    let unsigned = &payload[..payload.len() - items.rest().len()];
    let (v, r, s) = (items.wide()?, items.wide()?, items.wide()?);
    let mut suffix = Vec::new();
    if kind == 0 && v >= U256::from(35) {
        let chain_id: U256 = (v - U256::from(35)) >> 1;
        chain_id.encode(&mut suffix);
        suffix.extend_from_slice(&[0x80, 0x80]);
    }
    let mut message = Vec::with_capacity(unsigned.len() + suffix.len() + 10);
    if kind != 0 {
        message.push(kind);
    }
    Header { list: true, payload_length: unsigned.len() + suffix.len() }.encode(&mut message);
    message.extend_from_slice(unsigned);
    message.extend_from_slice(&suffix);
    Ok((keccak256(&message), v, r, s))
}
