//! Deletes files that no reader needs any more.

use super::ORPHAN_MIN;
use super::file_name::is_ours;
use super::table_log::TableLog;
use super::target::Target;
use anyhow::Result;
use std::time::Duration;

/// Deletes files of a table that a version removed longer than `retention` ago, and files that no
/// version names, left by a process that was killed before its commit. Returns how many.
///
/// # Errors
/// If the target cannot be read, or refuses.
pub(super) fn unlink(
    target: &dyn Target,
    log: &mut TableLog<'_>,
    table: &str,
    retention: Duration,
    now_ms: u64,
) -> Result<usize> {
    // In this order: what another process commits meanwhile was put here lately, and is kept.
    let listed = target.list(table)?;
    log.refresh()?;
    let is_over = |since_ms: u64, time: Duration| {
        u128::from(now_ms.saturating_sub(since_ms)) > time.as_millis()
    };
    let mut deleted = 0;
    for file in listed {
        if !is_ours(table, &file.name) || log.state().files.contains_key(&file.name) {
            continue;
        }
        let is_old = match log.state().removed.get(&file.name) {
            Some(removed) => is_over(removed.deletion_timestamp.unwrap_or(0), retention),
            None => is_over(file.changed_ms, retention.max(ORPHAN_MIN)),
        };
        if is_old {
            target.delete(&format!("{table}/{}", file.name))?;
            deleted += 1;
        }
    }
    if deleted > 0 {
        tracing::info!(table, files = deleted, "deleted what was removed long ago");
    }
    Ok(deleted)
}
