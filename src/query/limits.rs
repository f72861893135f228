//! Resource limits of a worker: what it may use, and that it goes last and dies first.

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, nice, set_parent_process_death_signal};
use rustix::process::{getppid, setrlimit};
use std::fs;

/// How far below the process that started it.
const NICE: i32 = 10;

/// Open files, at most: some tables have a file in each of hundreds of ranges.
const FILES_MAX: u64 = 4096;

/// Limits this process. There must be no threads yet.
///
/// `RLIMIT_AS` bounds all memory, also what a scalar function takes outside DuckDB's memory limit.
pub(super) fn apply(memory_bytes_max: u64, cpu_s_max: u64) -> Result<()> {
    close_inherited()?;
    set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")?;
    if getppid().is_none() {
        bail!("the process that started this one is gone");
    }
    nice(NICE).context("nice")?;
    for (resource, most) in [
        (Resource::As, memory_bytes_max),
        (Resource::Cpu, cpu_s_max),
        (Resource::Nofile, FILES_MAX),
        (Resource::Core, 0),
        // No file can grow; pipes can.
        (Resource::Fsize, 0),
    ] {
        let most = Some(getrlimit(resource).maximum.map_or(most, |hard| hard.min(most)));
        let limit = Rlimit { current: most, maximum: most };
        setrlimit(resource, limit).with_context(|| format!("limit {resource:?}"))?;
    }
    few_arenas();
    // The OOM killer's first choice. Raising it needs no privilege; without it the limits stand.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

/// Closes what the parent left open by mistake: only the pipes are the worker's.
fn close_inherited() -> Result<()> {
    // SAFETY: nothing in this process owns a descriptor above standard error yet.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if closed != 0 {
        return Err(std::io::Error::last_os_error()).context("close_range, of Linux 5.9");
    }
    Ok(())
}

/// Makes glibc's threads share arenas: each reserves 64 MiB of address space, which counts.
fn few_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}
