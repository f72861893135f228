//! What the writer may use: it lives beside a node, and where something runs out it is the writer that goes without, or dies.

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

/// Behind what it was started beside, but before the building of ranges, which runs at idle priority on threads of its own.
const NICE: i32 = 5;

/// Puts this process behind all others for memory, and with `behind` for the processor too. To be called before there are
/// threads. Where the system refuses a limit, the writer runs all the same.
///
/// `RLIMIT_DATA` bounds what a process can write to in memory, and not, as `RLIMIT_AS` does, the address space that allocators
/// reserve and files are mapped into.
pub fn apply(memory_bytes_max: u64, behind: bool) {
    let hard = getrlimit(Resource::Data).maximum.unwrap_or(u64::MAX);
    let memory = Some(memory_bytes_max.min(hard));
    note("memory", setrlimit(Resource::Data, Rlimit { current: memory, maximum: memory }));
    // The soft limit on open files is low for the sake of old programs that cannot count further.
    let files = getrlimit(Resource::Nofile).maximum;
    note("open files", setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }));
    // A file that grows beyond the limit of its size is an error then, and not the end.
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if behind {
        go_behind();
    }
    // The first to go where the container or the machine is out of memory. Raising it needs no privilege.
    note("oom_score_adj", std::fs::write("/proc/self/oom_score_adj", "1000"));
}

/// Puts this process behind what it was started beside, for the processor. To be called before there are threads.
pub fn go_behind() {
    note("priority", nice(NICE).map(drop));
}

fn note<E: std::fmt::Display>(limit: &str, applied: Result<(), E>) {
    if let Err(error) = applied {
        tracing::warn!(limit, error = %error, "runs without this limit");
    }
}
