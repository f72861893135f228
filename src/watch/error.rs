//! Why blocks could not be fetched.

use crate::geth;
use crate::stop::Stopped;

/// Why blocks could not be fetched.
#[derive(Debug)]
pub(super) enum FetchError {
    /// The node is unreachable: a normal state, to be waited out.
    Away(geth::Error),
    /// The node has pruned this history: it is recorded as missing.
    Pruned(String),
    /// This block failed its check.
    Bad { number: u64, reason: String },
    /// The freezer lacks these blocks, or contradicts the chain: fetch them from the node.
    Freezer(String),
    /// The node contradicts itself: its replies are not acted on.
    Doubt(String),
    /// The process is to stop.
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
