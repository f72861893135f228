//! Transactions of types 0 to 4, and the sender of each.

use super::{Depth, Signature, rlp::Items};
use crate::keccak::keccak256_each;
use alloy_primitives::{Address, B256, Bytes, U256, U512};
use alloy_rlp::{Encodable, Header};
use anyhow::{Context, Result, bail, ensure};

/// One transaction of a block.
#[derive(Debug)]
pub struct Transaction {
    /// The EIP-2718 envelope, which the transactions root is computed from.
    pub raw: Bytes,
    /// keccak-256 of [`Self::raw`].
    pub hash: B256,
    /// 0 for legacy, else the envelope's type byte.
    pub kind: u8,
    /// `None` if the type is unknown, in which case only [`Self::raw`] is stored, or if fields were
    /// not requested.
    pub fields: Option<Fields>,
    /// The sender; `None` until recovered, and if `fields` is.
    pub sender: Option<Address>,
}

/// The fields of a known type. In wei unless noted, with as many bits as the protocol allows: 256
/// for amounts and chain ids (yellow paper, EIP-1344), 64 for gas and nonces (EIP-2681). Geth
/// refuses larger ones.
#[derive(Debug)]
pub struct Fields {
    pub chain_id: Option<U256>,
    pub nonce: u64,
    pub gas_limit: u64,
    /// Types 0 and 1.
    pub gas_price: Option<U256>,
    /// Types 2 and later.
    pub max_fee_per_gas: Option<U256>,
    pub max_priority_fee_per_gas: Option<U256>,
    /// Type 3.
    pub max_fee_per_blob_gas: Option<U256>,
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
    /// As signed: 27, 28, or with the chain id folded in for legacy, which takes 257 bits; 0 or 1
    /// for the other types.
    pub v: U512,
    pub r: U256,
    pub s: U256,
    /// The hash that was signed.
    signing_hash: B256,
    /// The public key's parity, from `v`.
    y_parity: bool,
}

/// One authorization of a type 4 transaction. The sender chooses all of it freely.
#[derive(Debug)]
pub struct Authorization {
    pub chain_id: U256,
    pub address: Address,
    pub nonce: u64,
    pub y_parity: u8,
    pub r: U256,
    pub s: U256,
}

impl Transaction {
    /// Decodes a block's envelopes, and hashes all of them together.
    pub(super) fn decode_all(
        envelopes: impl Iterator<Item = Result<Bytes>>,
        depth: Depth,
    ) -> Result<Vec<Self>> {
        let mut signed = Vec::new();
        let mut ends = vec![0];
        let decode = |(index, raw): (usize, Result<Bytes>)| {
            let transaction = raw
                .and_then(|raw| Self::decode(raw, depth, &mut signed))
                .with_context(|| format!("transaction {index}"))?;
            ends.extend(transaction.fields.is_some().then_some(signed.len()));
            Ok(transaction)
        };
        let mut transactions = envelopes.enumerate().map(decode).collect::<Result<Vec<_>>>()?;
        let envelopes = transactions.iter().map(|transaction| &transaction.raw[..]);
        let signed = ends.windows(2).map(|ends| &signed[ends[0]..ends[1]]);
        let hashes = keccak256_each(&envelopes.chain(signed).collect::<Vec<_>>());
        let (of_envelopes, of_signed) = hashes.split_at(transactions.len());
        for (transaction, hash) in transactions.iter_mut().zip(of_envelopes) {
            transaction.hash = *hash;
        }
        let fields = transactions.iter_mut().filter_map(|transaction| transaction.fields.as_mut());
        for (fields, hash) in fields.zip(of_signed) {
            fields.signing_hash = *hash;
        }
        Ok(transactions)
    }

    /// Decodes one envelope, still without hashes, and appends what was signed. An unknown type is
    /// not an error: it keeps its bytes.
    fn decode(raw: Bytes, depth: Depth, signed: &mut Vec<u8>) -> Result<Self> {
        let kind = match raw.first().context("empty transaction")? {
            0xc0.. => 0,
            kind => *kind,
        };
        let fields = match (depth, kind) {
            (Depth::Fields, 0..=4) => {
                Some(Fields::decode(&raw, kind, signed).with_context(|| format!("type {kind}"))?)
            }
            _ => None,
        };
        Ok(Self { hash: B256::ZERO, raw, kind, fields, sender: None })
    }

    /// Number of its blobs.
    pub(crate) fn blob_count(&self) -> u64 {
        self.fields
            .as_ref()
            .and_then(|fields| fields.blob_versioned_hashes.as_ref())
            .map_or(0, |hashes| hashes.len() as u64)
    }
}

impl Fields {
    /// Decodes the list of a known type; what was signed consists of the list's own bytes.
    fn decode(raw: &Bytes, kind: u8, signed: &mut Vec<u8>) -> Result<Self> {
        let mut items = Items::list(if kind == 0 { raw } else { &raw[1..] })?;
        let payload = items.rest();
        let dynamic = kind >= 2;
        let mut chain_id = (kind > 0).then(|| items.wide().context("chain id")).transpose()?;
        let nonce = items.integer().context("nonce")?;
        let mut fee =
            |name: &'static str, has: bool| has.then(|| items.wide().context(name)).transpose();
        let gas_price = fee("gas price", !dynamic)?;
        let max_priority_fee_per_gas = fee("max priority fee per gas", dynamic)?;
        let max_fee_per_gas = fee("max fee per gas", dynamic)?;
        let gas_limit = items.integer().context("gas")?;
        let to = match items.bytes().context("to")? {
            [] if kind < 3 => None,
            address => Some(Address::try_from(address).context("to")?),
        };
        let value = items.wide().context("value")?;
        let input = raw.slice_ref(items.bytes().context("input")?);
        let access_list =
            (kind > 0).then(|| access_list(&mut items).context("access list")).transpose()?;
        let blobs = (kind == 3).then(|| -> Result<_> {
            Ok((
                items.wide().context("max fee per blob gas")?,
                fixed_list(&mut items).context("blob hashes")?,
            ))
        });
        let (max_fee_per_blob_gas, blob_versioned_hashes) = blobs.transpose()?.unzip();
        let authorizations =
            (kind == 4).then(|| authorization_list(&mut items).context("authorization list"));
        let authorization_list = authorizations.transpose()?;
        let unsigned = &payload[..payload.len() - items.rest().len()];
        let v = items.wide().context("v")?;
        let (r, s) = (items.wide().context("r")?, items.wide().context("s")?);
        ensure!(items.next().is_none(), "more fields than the type has");
        let y_parity = match (kind, u64::try_from(v).ok()) {
            (0, Some(27 | 28)) => v == U512::from(28),
            (0, Some(0..=34)) => bail!("v is {v}, which no signature has (EIP-155)"),
            (0, _) => {
                let folded = v - U512::from(35);
                let id = U256::checked_from_limbs_slice((folded >> 1usize).as_limbs());
                chain_id = Some(id.context("chain id has more than 256 bits (EIP-1344)")?);
                folded.bit(0)
            }
            (_, Some(parity @ (0 | 1))) => parity == 1,
            _ => bail!("the signature's parity is {v}, neither 0 nor 1 (EIP-2718)"),
        };
        append_signed(kind, unsigned, chain_id.filter(|_| kind == 0), signed);
        Ok(Self {
            chain_id,
            nonce,
            gas_limit,
            gas_price,
            max_fee_per_gas,
            max_priority_fee_per_gas,
            max_fee_per_blob_gas,
            to,
            value,
            input,
            access_list,
            blob_versioned_hashes,
            authorization_list,
            v,
            r,
            s,
            signing_hash: B256::ZERO,
            y_parity,
        })
    }

    /// The signature, and the hash that was signed.
    pub(crate) fn signature(&self) -> Signature {
        Signature { hash: self.signing_hash, r: self.r, s: self.s, y_parity: self.y_parity }
    }
}

/// The next item as a list of values of fixed length.
fn fixed_list<T: for<'b> TryFrom<&'b [u8]>>(items: &mut Items) -> Result<Vec<T>> {
    let mut list = Items::list(items.next_item()?)?;
    std::iter::from_fn(|| (!list.rest().is_empty()).then(|| list.fixed())).collect()
}

/// The next item as an access list (EIP-2930).
fn access_list(items: &mut Items) -> Result<Vec<(Address, Vec<B256>)>> {
    let pair = |item: Result<&[u8]>| -> Result<_> {
        let mut pair = Items::list(item?)?;
        let entry = (pair.fixed()?, fixed_list(&mut pair)?);
        ensure!(pair.next().is_none(), "more than an address and its keys");
        Ok(entry)
    };
    Items::list(items.next_item()?)?.map(pair).collect()
}

/// The next item as a list of authorizations (EIP-7702).
fn authorization_list(items: &mut Items) -> Result<Vec<Authorization>> {
    let signed = |item: Result<&[u8]>| -> Result<_> {
        let mut items = Items::list(item?)?;
        let signed = Authorization {
            chain_id: items.wide().context("chain id")?,
            address: items.fixed().context("address")?,
            nonce: items.integer().context("nonce")?,
            y_parity: u8::try_from(items.integer().context("parity")?).context("parity")?,
            r: items.wide().context("r")?,
            s: items.wide().context("s")?,
        };
        ensure!(items.next().is_none(), "more than six fields");
        Ok(signed)
    };
    Items::list(items.next_item()?)?.map(signed).collect()
}

/// Appends what was signed: the list without its last three items, and for a legacy transaction
/// with a chain id (EIP-155) with that id and two zeros in their place.
fn append_signed(kind: u8, unsigned: &[u8], chain_id: Option<U256>, signed: &mut Vec<u8>) {
    if kind != 0 {
        signed.push(kind);
    }
    let suffix_length = chain_id.map_or(0, |chain_id| chain_id.length() + 2);
    Header { list: true, payload_length: unsigned.len() + suffix_length }.encode(signed);
    signed.extend_from_slice(unsigned);
    if let Some(chain_id) = chain_id {
        chain_id.encode(signed);
        signed.extend_from_slice(&[0x80, 0x80]);
    }
}
