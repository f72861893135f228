//! The heartbeat that `spyhop status` and `spyhop health` read.

use super::progress::Building;
use crate::clock::{now, time_since_boot};
use crate::geth::Head;
use crate::store::Store;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often the heartbeat is written at least, while a step takes its time.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// How far the clocks of two machines may be apart, in seconds.
const SKEW_S: u64 = 5;

/// Seconds from 1970 to mainnet's block 1, the first that any network made. A block that says it is
/// older, as genesis blocks do, says nothing of when it was made.
const FIRST_BLOCK_S: u64 = 1_438_269_988;

/// `.spyhop/heartbeat`: the writer's state after its last step.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Heartbeat {
    /// The writer's process.
    pub process: u32,
    /// When it was written, seconds since 1970.
    pub time: u64,
    /// The same on the machine's own clock, which nobody sets.
    #[serde(default)]
    pub uptime: Option<Uptime>,
    /// How long the step that is being taken had taken by then, in seconds.
    #[serde(default)]
    pub busy_s: u64,
    /// What it does or waits for.
    pub state: String,
    /// The node's head.
    pub head: Option<u64>,
    /// The node's last finalized block.
    pub finalized: Option<u64>,
    /// The last block held.
    pub tip: Option<u64>,
    /// The last block sealed.
    pub sealed: Option<u64>,
    /// The first block of the run that ends at the last block held.
    #[serde(default)]
    pub run_first: Option<u64>,
    /// Blocks between the node's head and the last block held.
    pub lag_blocks: Option<u64>,
    /// Age of the node's head, in seconds: the node's own lag. A genesis block has none.
    pub node_lag_s: Option<u64>,
    /// What is wrong, if anything is.
    pub unhealthy: Option<String>,
    /// geth's socket.
    #[serde(default)]
    pub ipc: PathBuf,
    /// When a step was committed last, seconds since 1970; `None` where none was since the start.
    #[serde(default)]
    pub committed_at: Option<u64>,
    /// How building progresses, while it does.
    #[serde(default)]
    pub building: Option<Building>,
}

impl Heartbeat {
    /// The one on the volume at `root`; `None` where no writer was there yet, or where it cannot be
    /// read: a writer soon makes another.
    pub fn read(root: &Path) -> Option<Self> {
        Self::read_strictly(root).ok().flatten()
    }

    /// The same, with what is wrong with it.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub fn read_strictly(root: &Path) -> Result<Option<Self>> {
        match std::fs::read(root.join(".spyhop/heartbeat")) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).context("failed to read the heartbeat")
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("failed to read the heartbeat"),
        }
    }

    /// That of a writer which has no node yet.
    pub fn waiting(state: &str, ipc: &Path) -> Self {
        // Whoever reads it may have another working directory.
        let ipc = std::path::absolute(ipc).unwrap_or(ipc.to_owned());
        Self { process: std::process::id(), state: state.to_owned(), ipc, ..Self::default() }
    }

    /// How old it is, in seconds; `None` where it is of a time that has not come yet.
    pub fn age_s(&self) -> Option<u64> {
        let by_uptime = self.uptime.as_ref().and_then(|uptime| Uptime::now()?.since(uptime));
        by_uptime.or_else(|| {
            (now() + SKEW_S).checked_sub(self.time).map(|age| age.saturating_sub(SKEW_S))
        })
    }

    /// Whether it was written since this machine was started.
    pub fn is_of_this_boot(&self) -> bool {
        Uptime::now()
            .is_some_and(|now| self.uptime.as_ref().is_some_and(|then| then.boot == now.boot))
    }
}

/// A time since a start of the machine.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Uptime {
    /// Which start.
    boot: String,
    /// Seconds since then.
    seconds: u64,
}

impl Uptime {
    /// Now; `None` where the system does not say which start it was.
    fn now() -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self { boot: boot.trim().to_owned(), seconds: time_since_boot().as_secs() })
    }

    /// Seconds since then, where that was since the same start.
    fn since(&self, then: &Self) -> Option<u64> {
        self.seconds.checked_sub(then.seconds).filter(|_| self.boot == then.boot)
    }
}

/// Age of a block, in seconds, where it tells when it was made.
pub fn age_s(head: Head) -> Option<u64> {
    let tells = head.number > 0 && head.timestamp >= FIRST_BLOCK_S;
    tells.then(|| now().saturating_sub(head.timestamp))
}

/// Writes the heartbeat: after each step, and again where the next one takes its time.
#[derive(Debug)]
pub struct Pulse {
    store: Arc<Store>,
    /// The last one, and when the step was taken that it is of.
    last: Mutex<Option<(Heartbeat, Instant)>>,
}

impl Pulse {
    /// Nothing is written before the first beat.
    pub fn start(store: Arc<Store>) -> Arc<Self> {
        let pulse = Arc::new(Self { store, last: Mutex::default() });
        let beating = Arc::downgrade(&pulse);
        let thread = thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || Self::go_on(&beating));
        if let Err(error) = thread {
            tracing::warn!(%error, "a long step will look like a dead writer: no thread");
        }
        pulse
    }

    /// Beats until whoever takes the steps is gone.
    fn go_on(pulse: &Weak<Self>) {
        loop {
            thread::sleep(BEAT_EVERY);
            let Some(pulse) = pulse.upgrade() else { return };
            let mut last = pulse.last.lock().expect("nothing panics while holding it");
            if let Some((heartbeat, stepped)) = &mut *last
                && stepped.elapsed() >= BEAT_EVERY
            {
                heartbeat.busy_s = stepped.elapsed().as_secs();
                // The step itself will find out why it cannot be written.
                let _ = pulse.write(heartbeat);
            }
        }
    }

    /// Writes a heartbeat, which is written again while no other comes.
    pub fn beat(&self, mut heartbeat: Heartbeat) -> Result<()> {
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
