//! What the node still has to do, in words. Coarse ones: a state is logged only when it changes, so
//! it should seldom change.

use super::error::FetchError;
use super::heartbeat::age_s;
use super::reporter::Reporter;
use crate::geth::{Client, Head};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A head older than this, in seconds, is not that of a node that keeps up.
const OLD_S: u64 = 300;

/// How often a node with an old head is asked for its sync status.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// Why a node has only its genesis block.
pub(super) async fn before_first_block(client: &Client) -> Result<String, FetchError> {
    let syncing = client.syncing().await.map_err(FetchError::Away)?;
    Ok(format!("waiting for the node's first block: {}", stage(&syncing)))
}

/// When a node with an old head was last asked.
#[derive(Debug, Default)]
pub(super) struct Lag(Option<Instant>);

impl Lag {
    /// Logs why there are no new blocks if the node's head is old. It is followed all the same.
    pub(super) async fn log(
        &mut self,
        client: &Client,
        head: Option<Head>,
        reporter: &mut Reporter,
    ) {
        let Some(age_s) = head.and_then(age_s) else { return };
        let asked = self.0.is_some_and(|at| at.elapsed() < ASK_EVERY);
        if age_s < OLD_S || asked || reporter.state().starts_with("waiting") {
            return;
        }
        self.0 = Some(Instant::now());
        // This is for one log line only: if there is no reply, the next step reports what is wrong.
        if let Ok(syncing) = client.syncing().await {
            let at_least = at_least(age_s);
            reporter.log_state(format!(
                "the node's head is more than {at_least} old: {}",
                stage(&syncing)
            ));
        }
    }
}

/// What `eth_syncing` means (go-ethereum `internal/ethapi/api.go`). geth's head stays at block 0
/// until its first snap sync is complete.
fn stage(syncing: &Value) -> String {
    let number = |key: &str| {
        let text = syncing.get(key).and_then(Value::as_str)?;
        u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    let at = |key| number(key).unwrap_or(0);
    let (current, highest) = (at("currentBlock"), at("highestBlock"));
    let state_bytes = ["syncedAccountBytes", "syncedBytecodeBytes", "syncedStorageBytes"]
        .into_iter()
        .map(at)
        .fold(0, u64::saturating_add);
    if ["healedTrienodes", "healingTrienodes", "healedBytecodes", "healingBytecode"]
        .iter()
        .any(|key| at(key) > 0)
    {
        "it is healing the state, the last part of a snap sync".to_owned()
    } else if state_bytes > 0 && current <= highest {
        let percent = current.saturating_mul(100).checked_div(highest).unwrap_or(0);
        format!(
            "it is in a snap sync, at {percent} % of the blocks and {} GB of state",
            state_bytes / 1_000_000_000
        )
    } else if current < highest {
        format!("it syncs, at {} % of {highest} blocks", current.saturating_mul(100) / highest)
    } else if syncing.is_object() && highest > 0 {
        "it has every block, and is indexing".to_owned()
    } else {
        "it knows of no later one. Is a consensus client connected to it, and synced?".to_owned()
    }
}

/// An age, rounded down so that it seldom changes.
fn at_least(age_s: u64) -> String {
    match age_s {
        0..3_600 => "5 minutes".to_owned(),
        3_600..21_600 => "an hour".to_owned(),
        21_600..86_400 => "6 hours".to_owned(),
        86_400..172_800 => "a day".to_owned(),
        _ => format!("{} days", age_s / 86_400),
    }
}
