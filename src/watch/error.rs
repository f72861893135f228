//! Why blocks could not be had.

use crate::geth;
use crate::stop::Stopped;

/// Why blocks could not be had.
#[derive(Debug)]
pub enum FetchError {
    /// The node is away: a normal state, to be waited out.
    Away(geth::Error),
    /// The node has pruned this history: it is missing, and named so.
    Pruned(String),
    /// This block failed: the reason names it.
    Bad {
        /// Which block.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// geth's freezer did not give these blocks, or not as they are on the chain: the node is to be
    /// asked.
    Freezer(String),
    /// The node contradicts itself: nothing is done about what it says.
    Doubt(String),
    /// Stopped from outside.
    Stopped,
    /// Our own side failed: the volume, or a bug.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for FetchError {
    fn from(error: E) -> Self {
        let error = error.into();
        if error.is::<Stopped>() { Self::Stopped } else { Self::Other(error) }
    }
}
