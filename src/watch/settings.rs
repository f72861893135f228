//! What to do and how.

use crate::plan::Order;
use crate::rows::Selection;
use alloy_primitives::Address;
use std::path::PathBuf;

/// The first block to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// This height.
    Block(u64),
    /// This many blocks below the head.
    BelowHead(u64),
    /// The first block the node has.
    Earliest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Build finalized blocks, follow the head, and with `once` end when it is reached.
    Follow {
        /// End when the head is reached.
        once: bool,
    },
    /// Build finalized blocks up to this one, or all of them, at full speed, and end.
    Backfill {
        /// The last block to store.
        last: Option<u64>,
    },
}

/// Which blocks to trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Traces {
    /// None.
    Off,
    /// Those that enter the tail.
    #[default]
    Head,
    /// Those of history too, if the node serves their state. They are then fetched over its socket.
    All,
}

/// What to do and how.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What to do.
    pub task: Task,
    /// geth's socket.
    pub ipc: PathBuf,
    /// The volume.
    pub data: PathBuf,
    /// The first block to store.
    pub from: From,
    /// Drop ranges older than this many days.
    pub keep_days: Option<u64>,
    /// Depth at which a block counts as final on a chain that never names a finalized one.
    pub finality_depth: u64,
    /// The chain's wrapped ether contract, if it is not the known one.
    pub weth: Option<Address>,
    /// The volume's directory as a second published file names it; `None` for no such file.
    pub published_path: Option<PathBuf>,
    /// The operator's address labels.
    pub labels: Option<PathBuf>,
    /// The operator's directory of ABI files.
    pub abi: Option<PathBuf>,
    /// Limit on the process's memory.
    pub memory_bytes_max: u64,
    /// The tables to make.
    pub tables: Selection,
    /// Which blocks to trace.
    pub traces: Traces,
    /// Which ranges to build first.
    pub order: Order,
    /// Ranges built at the same time, at most.
    pub workers: usize,
    /// geth's freezer, if it is not below the node's data directory.
    pub freezer: Option<PathBuf>,
    /// Era files, if they are not next to the freezer.
    pub era: Option<PathBuf>,
}

impl Settings {
    /// Whether the process ends by itself when it is done.
    pub(super) fn ends(&self) -> bool {
        self.task != Task::Follow { once: false }
    }

    /// Whether to follow the head.
    pub(super) fn follows(&self) -> bool {
        matches!(self.task, Task::Follow { .. })
    }
}
