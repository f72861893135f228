//! What the writer may use: it lives beside a node, and where something runs out it is the writer
//! that goes without, or dies.

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

/// Behind what it was started beside, but before the building of ranges, which runs at idle
/// priority on threads of its own.
const NICE: i32 = 5;

/// The nice value of building while a person waits: on a core shared with one busy thread of normal
/// priority, a tenth of it.
const NICE_BUILD: i32 = 10;

/// Puts this process behind all others for memory, and with `behind` for the processor too. To be
/// called before there are threads. Where the system refuses a limit, the writer runs all the same.
///
/// `RLIMIT_DATA` bounds what a process can write to in memory, and not, as `RLIMIT_AS` does, the
/// address space that allocators reserve and files are mapped into.
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
    // The first to go where the container or the machine is out of memory. Raising it needs no
    // privilege.
    note("oom_score_adj", std::fs::write("/proc/self/oom_score_adj", "1000"));
}

/// Puts this process behind what it was started beside, for the processor. To be called before
/// there are threads.
pub fn go_behind() {
    note("priority", nice(NICE).map(drop));
}

/// Lowers the calling thread's priority for CPU and disk: to `idle`, so that the node and
/// everything else come first, or, where a person waits for the end, just below others: at idle
/// priority a busy machine would never let it finish. How much either costs a node that imports
/// blocks `tests/bench/beside.py` measures. Where the system refuses, the work is done all the
/// same.
pub fn lower_priority(idle: bool) {
    // The values of `ioprio_set(2)`: the idle class, or the lowest level of the best-effort class,
    // which is the normal one.
    let disk = if idle { 3 << 13 } else { 2 << 13 | 7 };
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: plain system calls on the calling thread, with a pointer to a live value.
    unsafe {
        if idle {
            libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter);
        } else {
            // Never up, where the whole process has less.
            libc::setpriority(
                libc::PRIO_PROCESS,
                0,
                libc::getpriority(libc::PRIO_PROCESS, 0).max(NICE_BUILD),
            );
        }
        // ioprio_set(IOPRIO_WHO_PROCESS, this thread, …).
        libc::syscall(libc::SYS_ioprio_set, 1, 0, disk);
    }
}

fn note<E: std::fmt::Display>(limit: &str, applied: Result<(), E>) {
    if let Err(error) = applied {
        tracing::warn!(limit, error = %error, "running without this limit");
    }
}
