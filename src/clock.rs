//! What time it is, and how much of the processor's was used.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// What the calling thread has used of a processor.
pub fn thread_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// What this process has used of all processors.
pub fn process_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Time since the machine was started, be it asleep or not: the same for all processes, and set by
/// nobody.
pub fn time_since_boot() -> Duration {
    clock(libc::CLOCK_BOOTTIME)
}

// By libc: with the feature for it, rustix would have other features in the build of DuckDB, which
// would be compiled anew.
fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a plain system call with a pointer to a live value; these clocks are always there.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
