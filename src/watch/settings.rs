//! What to do and how.

use crate::plan::Order;
use crate::rows::Selection;
use alloy_primitives::Address;
use std::path::PathBuf;

/// From which block on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// This height.
    Block(u64),
    /// So many blocks below the head.
    BelowHead(u64),
    /// The first block the node has.
    Earliest,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Build what is final, follow the head, and with `once` end when it is reached.
    Follow {
        /// End when the head is reached.
        once: bool,
    },
    /// Build what is final up to this block, or all of it, at full speed, and end.
    Backfill {
        /// The last block wanted.
        last: Option<u64>,
    },
}

/// Which blocks the node is asked to trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traces {
    /// None.
    Off,
    /// Those that enter the tail.
    #[default]
    Head,
    /// Those of history too, where the node serves their state. They then come over its socket.
    All,
}

/// What to do and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is to be done.
    pub task: Task,
    /// geth's socket.
    pub ipc: PathBuf,
    /// The volume.
    pub data: PathBuf,
    /// From which block on.
    pub from: From,
    /// Drop ranges that are older than so many days.
    pub keep_days: Option<u64>,
    /// How deep a block counts as final on a chain that never names a finalized one.
    pub finality_depth: u64,
    /// The chain's wrapped ether, where it is not the known one.
    pub weth: Option<Address>,
    /// The volume's directory as a second published file names it; `None` for no such file.
    pub published_path: Option<PathBuf>,
    /// The operator's names of addresses.
    pub labels: Option<PathBuf>,
    /// The operator's directory of ABI files.
    pub abi: Option<PathBuf>,
    /// Memory the process may have.
    pub memory_bytes_max: u64,
    /// The tables to be made.
    pub tables: Selection,
    /// Which blocks are traced.
    pub traces: Traces,
    /// Which ranges are built first.
    pub order: Order,
    /// Ranges built at the same time, at most.
    pub workers: usize,
    /// geth's freezer, where it does not lie below the node's data directory.
    pub freezer: Option<PathBuf>,
    /// Era files, where they do not lie beside the freezer.
    pub era: Option<PathBuf>,
}

impl Settings {
    /// Whether the process ends by itself when all is done.
    pub fn ends(&self) -> bool {
        self.task != Task::Follow { once: false }
    }

    /// Whether the head is followed.
    pub fn follows(&self) -> bool {
        matches!(self.task, Task::Follow { .. })
    }
}
