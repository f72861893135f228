//! The small files besides the blocks: the chain record, the reorganisations, and files that are
//! recreated automatically: the rankings of holders, the heartbeat and the published file.

use super::fault::Fault;
use crate::answers::ranking;
use crate::publish;
use crate::store::{self, CHAIN, ChainRecord, Damaged};
use crate::watch::Heartbeat;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Faults, each with the path, relative to the volume, that a repair moves to quarantine; none if
/// it is replaced.
pub(super) fn check(root: &Path) -> Result<Vec<(Fault, Option<PathBuf>)>> {
    let mut faults = Vec::new();
    let fault = |path: &Path, check: &str, expected: &str, found: String| {
        Fault::new(path.display().to_string(), check, expected, found)
    };
    let whole = "an intact file";
    match store::read_chain_record(root)? {
        ChainRecord::Chain(_) => {}
        // A new writer recreates it before anything else.
        ChainRecord::Missing => faults
            .push((fault(CHAIN.as_ref(), "file", "an existing file", "none".to_owned()), None)),
        ChainRecord::Damaged(reason) => {
            faults.push((fault(CHAIN.as_ref(), "record", whole, reason), None))
        }
    }
    for Damaged { path, reason } in store::damaged_reorgs(root)? {
        let path = path.strip_prefix(root).unwrap_or(&path).to_owned();
        faults.push((fault(&path, "record", whole, reason), Some(path)));
    }
    for Damaged { path, reason } in ranking::damaged(root)? {
        faults.push((fault(&path, "ranking", whole, reason), Some(path)));
    }
    if let Err(error) = Heartbeat::read_strictly(root) {
        let path = PathBuf::from(".spyhop/heartbeat");
        faults.push((fault(&path, "record", "a readable file", format!("{error:#}")), Some(path)));
    }
    if let Err(error) = publish::read_through(root) {
        faults.push((
            fault(publish::FILE.as_ref(), "file", "a readable file", format!("{error:#}")),
            None,
        ));
    }
    Ok(faults)
}
