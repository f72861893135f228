//! The execution API's own test chain in a real geth: 54 blocks through every fork from Frontier to Osaka.

use super::fixtures;
use crate::rig::expected::{self, Json};
use crate::rig::{Geth, Published, Spyhop};
use serde_json::Value;

#[test]
fn every_block_of_the_execution_apis_chain_equals_geths() {
    let Some(folder) = fixtures("execution-apis") else { return };
    let geth = Geth::import(&folder.join("genesis.json"), &folder.join("chain.rlp"));
    let update: Value = serde_json::from_slice(&std::fs::read(folder.join("headfcu.json")).unwrap()).unwrap();
    let reply = geth.call(update["method"].as_str().unwrap(), update["params"].clone());
    assert_eq!(reply["payloadStatus"]["status"], "VALID", "{reply}");

    let data = geth.data("data");
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "earliest", "--once"]).succeed();
    let found = Published::open(&data);
    assert_eq!(found.check_prefix(0), Some(54));
    let blocks: Vec<_> = (0..=54).map(|number| Json::of(&geth, number)).collect();
    expected::check(&found, &blocks);

    // The chain does hold what the test is about.
    let types = found.rows("SELECT DISTINCT transaction_type AS kind FROM transactions ORDER BY kind");
    let types: Vec<_> = types.iter().map(|row| row["kind"].as_deref().unwrap()).collect();
    assert_eq!(types, ["0", "1", "2", "3", "4"]);
    for table in ["logs", "withdrawals", "uncles", "transactions WHERE receipt_root IS NOT NULL"] {
        assert_ne!(found.number(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
}
