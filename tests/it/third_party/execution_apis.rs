//! The execution API's own test chain in a real geth: 54 blocks through every fork from Frontier to
//! Osaka.

use super::fixtures;
use crate::ether::ledger;
use crate::rig::expected::{self, Json};
use crate::rig::geth::Archive;
use crate::rig::{Geth, Published, Spyhop};
use ethers::types::U256;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn chain(folder: &Path, archive: Archive) -> Geth {
    let geth = Geth::import(&folder.join("genesis.json"), &folder.join("chain.rlp"), archive);
    let update = json(&folder.join("headfcu.json"));
    let reply = geth.call(update["method"].as_str().unwrap(), update["params"].clone());
    assert_eq!(reply["payloadStatus"]["status"], "VALID", "{reply}");
    geth
}

#[test]
fn movements_fees_and_balances_reach_every_balance_of_the_execution_apis_chain() {
    let Some(folder) = fixtures("execution-apis") else { return };
    let geth = chain(&folder, Archive(true));
    let data = geth.data("data");
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    let found = Published::open(&data);
    let amount = |digits: &str| U256::from_dec_str(digits).unwrap();
    let state = json(&folder.join("headstate.json"));
    let expected: BTreeMap<String, U256> = state["accounts"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(address, account)| {
            (address.to_lowercase(), amount(account["balance"].as_str().unwrap()))
        })
        .collect();
    assert_eq!(expected.len(), 114);

    let rows = found.rows(
        "SELECT address, arg_max(coalesce(balance::VARCHAR, balance_text), block_number) AS balance
         FROM balances
         WHERE asset = 'ETH' GROUP BY address",
    );
    let text = |row: &crate::rig::published::Row, column: &str| row[column].clone().unwrap();
    let balances: BTreeMap<_, _> =
        rows.iter().map(|row| (text(row, "address"), amount(&text(row, "balance")))).collect();
    let summed = ledger(&found);
    for (address, balance) in &expected {
        assert_eq!(
            summed.get(address).copied().unwrap_or_default(),
            *balance,
            "{address} by movements and fees"
        );
        assert_eq!(
            balances.get(address).copied().unwrap_or_default(),
            *balance,
            "{address} by balances"
        );
    }
    // And no other account has any.
    for (address, balance) in summed.iter().chain(&balances) {
        assert!(
            balance.is_zero() || expected.contains_key(address),
            "{address} is none of the 114"
        );
    }
    // Issued, less burnt.
    let sum = |sql: &str| amount(&found.value(&format!("SELECT coalesce(sum({sql}")).unwrap());
    let issued = sum("value), 0) FROM native_transfers WHERE from_address IS NULL");
    let destroyed = sum("value), 0) FROM native_transfers WHERE to_address IS NULL");
    let burnt = sum("fee_burnt + coalesce(fee_blob, 0)), 0) FROM transactions");
    let total = expected.values().fold(U256::zero(), |total, balance| total + balance);
    assert_eq!(issued - destroyed - burnt, total);
}

#[test]
fn every_block_of_the_execution_apis_chain_equals_geths() {
    let Some(folder) = fixtures("execution-apis") else { return };
    let geth = chain(&folder, Archive(false));

    let data = geth.data("data");
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "earliest", "--once"]).succeed();
    let found = Published::open(&data);
    assert_eq!(found.check_prefix(0), Some(54));
    let blocks: Vec<_> = (0..=54).map(|number| Json::of(&geth, number)).collect();
    expected::check(&found, &blocks);

    // The chain contains what is tested.
    let types =
        found.rows("SELECT DISTINCT transaction_type AS kind FROM transactions ORDER BY kind");
    let types: Vec<_> = types.iter().map(|row| row["kind"].as_deref().unwrap()).collect();
    assert_eq!(types, ["0", "1", "2", "3", "4"]);
    for table in ["logs", "withdrawals", "uncles", "transactions WHERE receipt_root IS NOT NULL"] {
        assert_ne!(found.number(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
}
