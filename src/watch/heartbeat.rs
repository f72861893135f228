//! The heartbeat that `spyhop status` and `spyhop health` read.

use super::pressure::PauseReason;
use super::progress::Building;
use crate::clock::{now, time_since_boot};
use crate::geth::{Calls, Head};
use crate::store::Store;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often the heartbeat is written during a long step.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// Tolerated clock difference between two machines, in seconds.
const SKEW_S: u64 = 5;

/// Time of mainnet's block 1, the first of any network. An earlier timestamp, as in genesis blocks,
/// says nothing about when the block was made.
const FIRST_BLOCK_S: u64 = 1_438_269_988;

/// `.spyhop/heartbeat`: the writer's state after its last step.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Heartbeat {
    /// The writer's process ID.
    pub process: u32,
    /// When it was written, in seconds since 1970.
    pub time: u64,
    /// The same by the machine's monotonic clock.
    #[serde(default)]
    pub uptime: Option<Uptime>,
    /// How long the current step had taken when this was written, in seconds.
    #[serde(default)]
    pub busy_s: u64,
    /// What the writer is doing or waiting for.
    pub state: String,
    /// The node's head.
    pub head: Option<u64>,
    /// The node's last finalized block.
    pub finalized: Option<u64>,
    /// The last stored block.
    pub tip: Option<u64>,
    /// The last sealed block.
    pub sealed: Option<u64>,
    /// The first block of the contiguous run that ends at the last stored block.
    #[serde(default)]
    pub run_first: Option<u64>,
    /// Blocks between the node's head and the last stored block.
    pub lag_blocks: Option<u64>,
    /// Age of the node's head, in seconds: the node's own lag. A genesis block has none.
    pub node_lag_s: Option<u64>,
    /// How often a batch of recovered senders differed from libsecp256k1 since the writer's start.
    #[serde(default)]
    pub sender_differences: u64,
    /// Blocks that failed their check since the writer's start, whether or not another try helped.
    #[serde(default)]
    pub proof_failures: u64,
    /// The node's calls since the writer's start.
    #[serde(default)]
    pub calls: Vec<Calls>,
    /// Why building pauses, if it does.
    #[serde(default)]
    pub paused: Option<PauseReason>,
    /// What is wrong, if anything.
    pub unhealthy: Option<String>,
    /// geth's socket.
    #[serde(default)]
    pub ipc: PathBuf,
    /// Time of the last committed step, in seconds since 1970; `None` if there was none since the
    /// start.
    #[serde(default)]
    pub committed_at: Option<u64>,
    /// Progress of building, while ranges are being built.
    #[serde(default)]
    pub building: Option<Building>,
}

impl Heartbeat {
    /// Reads the heartbeat of the volume at `root`; `None` if there is none or it cannot be read: a
    /// writer soon replaces it.
    pub(crate) fn read(root: &Path) -> Option<Self> {
        Self::read_strictly(root).ok().flatten()
    }

    /// Reads the heartbeat, and fails if it is damaged.
    pub(crate) fn read_strictly(root: &Path) -> Result<Option<Self>> {
        match std::fs::read(root.join(".spyhop/heartbeat")) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).context("failed to read the heartbeat")
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("failed to read the heartbeat"),
        }
    }

    /// The heartbeat of a writer that has no node yet.
    pub(super) fn waiting(state: &str, ipc: &Path) -> Self {
        // A reader may have another working directory.
        let ipc = std::path::absolute(ipc).unwrap_or(ipc.to_owned());
        Self { process: std::process::id(), state: state.to_owned(), ipc, ..Self::default() }
    }

    /// Its age in seconds; `None` if its time is in the future.
    pub(crate) fn age_s(&self) -> Option<u64> {
        let by_uptime = self.uptime.as_ref().and_then(|uptime| Uptime::now()?.since(uptime));
        by_uptime.or_else(|| {
            (now() + SKEW_S).checked_sub(self.time).map(|age| age.saturating_sub(SKEW_S))
        })
    }

    /// Whether it was written since this machine booted.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        Uptime::now()
            .is_some_and(|now| self.uptime.as_ref().is_some_and(|then| then.boot == now.boot))
    }
}

/// Time since the machine booted.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Uptime {
    /// Identifies the boot.
    boot: String,
    seconds: u64,
}

impl Uptime {
    /// Now; `None` if the system does not report its boot ID.
    fn now() -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self { boot: boot.trim().to_owned(), seconds: time_since_boot().as_secs() })
    }

    /// Seconds since `then`, if that was in the same boot.
    fn since(&self, then: &Self) -> Option<u64> {
        self.seconds.checked_sub(then.seconds).filter(|_| self.boot == then.boot)
    }
}

/// Age of a block in seconds, if its timestamp is meaningful.
pub(super) fn age_s(head: Head) -> Option<u64> {
    let tells = head.number > 0 && head.timestamp >= FIRST_BLOCK_S;
    tells.then(|| now().saturating_sub(head.timestamp))
}

/// Writes the heartbeat after each step, and repeats it during a long step.
#[derive(Debug)]
pub(super) struct Pulse {
    store: Arc<Store>,
    /// The last heartbeat, and when its step was committed.
    last: Mutex<Option<(Heartbeat, Instant)>>,
}

impl Pulse {
    /// Nothing is written before the first beat.
    pub(super) fn start(store: Arc<Store>) -> Arc<Self> {
        let pulse = Arc::new(Self { store, last: Mutex::default() });
        let beating = Arc::downgrade(&pulse);
        let thread = thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || Self::repeat(&beating));
        if let Err(error) = thread {
            tracing::warn!(%error, "no thread for the heartbeat: a long step will look like a \
                dead writer");
        }
        pulse
    }

    /// Repeats the heartbeat until its owner is dropped.
    fn repeat(pulse: &Weak<Self>) {
        loop {
            thread::sleep(BEAT_EVERY);
            let Some(pulse) = pulse.upgrade() else { return };
            let mut last = pulse.last.lock().expect("nothing panics while holding it");
            if let Some((heartbeat, stepped)) = &mut *last
                && stepped.elapsed() >= BEAT_EVERY
            {
                heartbeat.busy_s = stepped.elapsed().as_secs();
                // The step itself reports why it cannot be written.
                let _ = pulse.write(heartbeat);
            }
        }
    }

    /// Writes a heartbeat, which is repeated until the next one.
    pub(super) fn beat(&self, mut heartbeat: Heartbeat) -> Result<()> {
        let mut last = self.last.lock().expect("nothing panics while holding it");
        let written = self.write(&mut heartbeat);
        *last = Some((heartbeat, Instant::now()));
        written
    }

    fn write(&self, heartbeat: &mut Heartbeat) -> Result<()> {
        (heartbeat.time, heartbeat.uptime) = (now(), Uptime::now());
        self.store.beat(heartbeat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    #[test]
    fn block_that_says_it_was_made_before_any_was_has_no_age() {
        let head = |number, timestamp| Head {
            number,
            timestamp,
            hash: B256::ZERO,
            parent_hash: B256::ZERO,
        };
        for (number, timestamp) in [(0, 0), (0, now()), (1, 0), (7, 70), (7, 1_438_269_987)] {
            assert_eq!(age_s(head(number, timestamp)), None, "block {number} of {timestamp}");
        }
        assert!(age_s(head(1, now() - 100)).is_some_and(|age_s| (100..200).contains(&age_s)));
        assert_eq!(age_s(head(1, now() + 100)), Some(0));
    }
}
