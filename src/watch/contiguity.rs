//! Checks that stored blocks are contiguous up to the tip, or that `coverage` lists what is
//! missing.
//!
//! The heartbeat records the first block of the run, so that the next writer, or a reader without a
//! writer, can detect that part of it was lost.

use super::heartbeat::Heartbeat;
use crate::error::Failed;
use crate::store::{RANGE_MIN, read_readable_ranges, tail};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

/// First and last block of each part that is missing from the run of blocks left by the last
/// writer.
pub(crate) fn holes(root: &Path) -> Result<Vec<(u64, u64)>> {
    /// Attempts, because a running writer may be between two steps.
    const LOOKS: usize = 3;
    let mut found = Vec::new();
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
        found = look_for_holes(root)?;
        if found.is_empty() {
            break;
        }
    }
    Ok(found)
}

fn look_for_holes(root: &Path) -> Result<Vec<(u64, u64)>> {
    let run_first = Heartbeat::read(root).and_then(|heartbeat| heartbeat.run_first);
    // The tail before the ranges: a block that is sealed meanwhile is then seen in at least one of
    // them.
    let numbers: Vec<_> =
        tail::paths(root)?.iter().filter_map(|path| tail::number_of(path)).collect();
    let (ranges, unreadable) = read_readable_ranges(root)?;
    let mut stored: Vec<_> = numbers.iter().map(|number| (*number, *number)).collect();
    stored.extend(ranges.iter().map(|range| (range.first, range.last)));
    stored.extend(unreadable.iter().map(|range| (range.first, range.last)));
    stored.sort_unstable();
    // Without a heartbeat, all that is known is that the tail begins at a multiple of
    // [`RANGE_MIN`].
    let lowest = numbers.first().map(|number| number / RANGE_MIN * RANGE_MIN);
    let Some(mut next) = run_first.or(lowest) else { return Ok(Vec::new()) };
    let mut holes = Vec::new();
    for (first, last) in stored {
        if next < first {
            holes.push((next, first - 1));
        }
        next = next.max(last.saturating_add(1));
    }
    Ok(holes)
}

/// Fails if the volume lacks blocks that its last writer had.
pub(crate) fn check(root: &Path) -> Result<()> {
    if let Some((first, last)) = holes(root)?.first() {
        let what = format!("blocks {first} to {last} were stored and are now missing");
        return Err(Failed::new(what, "`spyhop watch` fetches them again").into());
    }
    Ok(())
}
