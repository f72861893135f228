//! `transactions`: one row per transaction, with its receipt.

use super::Kind::{Integer, Key, Long, Text, TextList, Time, Wide};
use super::fees::{self, Paid};
use super::{Rows, Table, column};
use crate::decode::{Authorization, Outcome};
use crate::prove::Proved;
use alloy_primitives::{Address, B256, U256};
use anyhow::{Context, Result};
use serde_json::json;

pub(crate) const TABLE: Table = Table {
    name: "transactions",
    comment: "One row per transaction, with its signature and its receipt.",
    columns: &[
        column("block_number", Integer, "The block it is in."),
        column("block_hash", Text, "The block it is in."),
        column("block_timestamp", Time, "When the block was made, UTC."),
        column("transaction_index", Integer, "Position in the block, from 0."),
        column("hash", Key, "keccak-256 of the transaction's envelope."),
        column(
            "transaction_type",
            Integer,
            "0 legacy, 1 access list, 2 fee market, 3 blobs, 4 set code.",
        ),
        column(
            "from_address",
            Key,
            "The sender, recovered from the signature; null for a type this version does not know.",
        ),
        column("to_address", Key, "The recipient; null if a contract is created."),
        column("value", Wide, "Ether transferred, in wei."),
        column("value_text", Text, "The value if it has more than 38 digits, else null."),
        column("gas", Integer, "Gas limit."),
        column(
            "gas_price",
            Wide,
            "Wei per gas offered: types 0 and 1; for the others the effective price, as in the \
             execution API.",
        ),
        column("gas_price_text", Text, "The gas price if it has more than 38 digits, else null."),
        column("max_fee_per_gas", Wide, "Maximum wei per gas: types 2 and later."),
        column(
            "max_fee_per_gas_text",
            Text,
            "The exact value if it has more than 38 digits, else null.",
        ),
        column(
            "max_priority_fee_per_gas",
            Wide,
            "Maximum wei per gas for the block's proposer: types 2 and later.",
        ),
        column(
            "max_priority_fee_per_gas_text",
            Text,
            "The exact value if it has more than 38 digits, else null.",
        ),
        column("max_fee_per_blob_gas", Wide, "Maximum wei per blob gas: type 3."),
        column(
            "max_fee_per_blob_gas_text",
            Text,
            "The exact value if it has more than 38 digits, else null.",
        ),
        column("nonce", Long, "Number of earlier transactions of the sender."),
        column("input", Text, "Call data, or the init code of a contract."),
        column(
            "chain_id",
            Text,
            "The chain id signed for, in decimal; null for a legacy transaction without one.",
        ),
        column("access_list", Text, "JSON as in the execution API: types 1 and later."),
        column("authorization_list", Text, "JSON as in the execution API: type 4 (EIP-7702)."),
        column("blob_versioned_hashes", TextList, "Commitments to the blobs: type 3."),
        column(
            "v",
            Text,
            "Signature, as a 0x quantity: 27, 28 or with the chain id folded in for legacy; else \
             0 or 1.",
        ),
        column("r", Text, "Signature, as a 0x quantity."),
        column("s", Text, "Signature, as a 0x quantity."),
        column("raw", Text, "The whole envelope of a type this version does not know; else null."),
        column("receipt_status", Integer, "1 succeeded, 0 failed; null before Byzantium."),
        column("receipt_root", Text, "State root after the transaction; null since Byzantium."),
        column(
            "receipt_cumulative_gas_used",
            Integer,
            "Gas used in the block up to and with this transaction.",
        ),
        column("receipt_gas_used", Integer, "Gas used."),
        column("receipt_contract_address", Key, "The contract it creates, or null."),
        column("receipt_effective_gas_price", Wide, "Wei per gas paid."),
        column(
            "receipt_effective_gas_price_text",
            Text,
            "The exact value if it has more than 38 digits, else null.",
        ),
        column("receipt_blob_gas_used", Integer, "Blob gas used: type 3."),
        column("receipt_blob_gas_price", Wide, "Wei per blob gas paid: type 3."),
        column(
            "receipt_blob_gas_price_text",
            Text,
            "The exact value if it has more than 38 digits, else null.",
        ),
        column(
            "fee_burnt",
            Wide,
            "Wei burnt: base fee times gas used; 0 before London; without blobs.",
        ),
        column("fee_burnt_text", Text, "The exact value if it has more than 38 digits, else null."),
        column("fee_tip", Wide, "Wei paid to the block's fee recipient."),
        column("fee_tip_text", Text, "The exact value if it has more than 38 digits, else null."),
        column("fee_blob", Wide, "Wei burnt for blobs: type 3."),
        column("fee_blob_text", Text, "The exact value if it has more than 38 digits, else null."),
    ],
};

/// Why gas of transactions fits a `BIGINT`.
const GAS_MAX: &str =
    "no block has gas for it: the limit ends at 2^63-1 (EIP-4803, geth's params.MaxGasLimit)";

pub(super) fn push(rows: &mut Rows, block: &Proved) -> Result<()> {
    let header = &block.header;
    for (index, paid) in fees::paid(block).enumerate() {
        let Paid { transaction, fields, receipt, gas_used, .. } = paid;

        rows.integer(header.number)?;
        rows.hex(header.hash);
        rows.time(header.timestamp);
        rows.integer(index as u64)?;
        rows.hex(transaction.hash);
        rows.integer(u64::from(transaction.kind))?;
        rows.hex_option(transaction.sender);
        rows.hex_option(fields.and_then(|fields| fields.to));
        rows.wide(fields.map(|fields| fields.value));
        rows.integer(fields.map(|fields| fields.gas_limit)).context(GAS_MAX)?;
        rows.wide(paid.effective_gas_price);
        rows.wide(fields.and_then(|fields| fields.max_fee_per_gas));
        rows.wide(fields.and_then(|fields| fields.max_priority_fee_per_gas));
        rows.wide(fields.and_then(|fields| fields.max_fee_per_blob_gas));
        rows.long(fields.map(|fields| fields.nonce));
        rows.hex_option(fields.map(|fields| &fields.input));
        rows.text(fields.and_then(|fields| fields.chain_id).map(|id| id.to_string()).as_deref());
        rows.text(
            fields
                .and_then(|fields| fields.access_list.as_deref())
                .map(access_list_json)
                .as_deref(),
        );
        rows.text(
            fields
                .and_then(|fields| fields.authorization_list.as_deref())
                .map(authorizations_json)
                .as_deref(),
        );
        rows.hex_list(fields.and_then(|fields| fields.blob_versioned_hashes.as_deref()));
        match fields.map(|fields| (fields.v, U256::checked_from_limbs_slice(fields.v.as_limbs()))) {
            Some((v, None)) => rows.text(format!("{v:#x}").as_str()),
            narrow => rows.quantity(narrow.and_then(|(_, v)| v)),
        }
        rows.quantity(fields.map(|fields| fields.r));
        rows.quantity(fields.map(|fields| fields.s));
        rows.hex_option(fields.is_none().then_some(&transaction.raw));
        let (status, root) = match receipt.outcome {
            Outcome::Status(status) => (Some(u64::from(status)), None),
            Outcome::Root(root) => (None, Some(root)),
        };
        rows.integer(status)?;
        rows.hex_option(root);
        rows.integer(receipt.cumulative_gas_used).context(GAS_MAX)?;
        rows.integer(gas_used).context(GAS_MAX)?;
        rows.hex_option(paid.creates());
        rows.wide(paid.effective_gas_price);
        rows.integer(paid.blob_gas_used)?;
        rows.wide(paid.blob_gas_price);
        rows.sum(paid.burnt);
        rows.sum(paid.tip);
        rows.sum(paid.blob);
    }
    Ok(())
}

fn access_list_json(list: &[(Address, Vec<B256>)]) -> String {
    let items: Vec<_> = list
        .iter()
        .map(|(address, keys)| {
            let keys: Vec<_> = keys.iter().map(hex).collect();
            json!({"address": hex(address), "storageKeys": keys})
        })
        .collect();
    json!(items).to_string()
}

fn authorizations_json(list: &[Authorization]) -> String {
    let items: Vec<_> = list
        .iter()
        .map(|signed| {
            json!({
                "chainId": format!("{:#x}", signed.chain_id),
                "address": hex(signed.address),
                "nonce": format!("{:#x}", signed.nonce),
                "yParity": format!("{:#x}", signed.y_parity),
                "r": format!("{:#x}", signed.r),
                "s": format!("{:#x}", signed.s),
            })
        })
        .collect();
    json!(items).to_string()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    const_hex::encode_prefixed(bytes)
}
