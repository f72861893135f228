//! A table as Delta describes it.

use super::action::{Format, Metadata, Protocol};
use crate::rows::{Kind, Table, balances, combined};
use crate::store::Identity;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The only feature of the tables: times without a zone.
const FEATURE: &str = "timestampNtz";

/// What a program must understand to read a table of the lake.
pub(super) fn protocol() -> Protocol {
    let features = || vec![FEATURE.to_owned()];
    Protocol {
        min_reader_version: 3,
        min_writer_version: 7,
        reader_features: features(),
        writer_features: features(),
    }
}

/// Properties of a table that name its chain.
const CHAIN_ID: &str = "spyhop.chainId";
const GENESIS_HASH: &str = "spyhop.genesisHash";

/// A table's schema and description, of a table that is new in the lake.
pub(super) fn metadata(table: &Table, chain: Identity, now_ms: u64) -> Metadata {
    let configuration = BTreeMap::from([
        // For programs that write checkpoints of their own.
        ("delta.checkpointInterval".to_owned(), super::CHECKPOINT_EVERY.to_string()),
        (CHAIN_ID.to_owned(), chain.chain_id.to_string()),
        (GENESIS_HASH.to_owned(), chain.genesis_hash.to_string()),
    ]);
    Metadata {
        id: new_id(table.name),
        name: Some(table.name.to_owned()),
        description: Some(description(table)),
        format: Format { provider: "parquet".to_owned(), options: BTreeMap::new() },
        schema_string: schema(table).to_string(),
        partition_columns: Vec::new(),
        configuration,
        created_time: Some(now_ms),
    }
}

/// The chain that a table of a lake is of, as its properties name it.
pub(super) fn chain_of(metadata: &Metadata) -> Option<(&str, &str)> {
    let property = |name| metadata.configuration.get(name).map(String::as_str);
    property(CHAIN_ID).zip(property(GENESIS_HASH))
}

/// A table's comment, and what must be known to query its rows.
fn description(table: &Table) -> String {
    let split = match table.name {
        "address_flows" => {
            "An asset, address and day has one row in each file that has any of it: group by asset, \
            address and day, and add up amounts and counts."
        }
        "gas_flows" => {
            "A day, role and address has one row in each file that has any of it: group by day, role \
            and address, and add up counts, gas and fees."
        }
        "large_transfers" => {
            "Each file has the largest of its own blocks: rank again over all files."
        }
        "tokens" => {
            "A token has one row in each file in which it was transferred: take the first with a \
            symbol, name and decimals."
        }
        "balances" => {
            "A holder has one row for each block that changed the balance: the newest is current."
        }
        _ => return table.comment.to_owned(),
    };
    format!("{} {split}", table.comment)
}

/// The schema of a table.
fn schema(table: &Table) -> Value {
    let fields: Vec<_> = table
        .columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": type_of(column.kind),
                "nullable": true,
                "metadata": {"comment": column.comment},
            })
        })
        .collect();
    json!({"type": "struct", "fields": fields})
}

fn type_of(kind: Kind) -> Value {
    match kind {
        Kind::Integer => json!("long"),
        Kind::Long | Kind::Wide => json!("decimal(38,0)"),
        Kind::Percent => json!("decimal(5,2)"),
        Kind::Text | Kind::Key => json!("string"),
        Kind::TextList => json!({"type": "array", "elementType": "string", "containsNull": true}),
        Kind::Time => json!("timestamp_ntz"),
    }
}

/// Whether a merge of ranges leaves the table's rows as they are: not where rows of equal keys are
/// combined. Those of `balances` are only sorted anew.
pub(super) fn keeps_rows(table: &Table) -> bool {
    !combined::is_combined(table) || table.name == balances::TABLE.name
}

/// A new UUID (version 8 of RFC 9562).
fn new_id(table: &str) -> String {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = format!("{table} {:?} {}", time.unwrap_or_default(), std::process::id());
    let mut bytes: [u8; 16] = [0; 16];
    bytes.copy_from_slice(&blake3::hash(seed.as_bytes()).as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = const_hex::encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
