//! Resource limits of the writer: when something runs out, the writer yields or dies, not the node.

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

/// Below the process that started it, but above the workers, which run at idle priority.
const NICE: i32 = 5;

/// The nice value of workers while a person is waiting: a tenth of a core that is shared with one
/// busy thread of normal priority.
const NICE_BUILD: i32 = 10;

/// Makes this process the first to lose memory, and with `behind` lowers its CPU priority too. Call
/// it before there are threads. If the system refuses a limit, the writer runs without it.
///
/// `RLIMIT_DATA` bounds the memory that a process can write to, and not, as `RLIMIT_AS` does, the
/// address space that allocators reserve and files are mapped into.
pub(super) fn apply(memory_bytes_max: u64, behind: bool) {
    let hard = getrlimit(Resource::Data).maximum.unwrap_or(u64::MAX);
    let memory = Some(memory_bytes_max.min(hard));
    note("memory", setrlimit(Resource::Data, Rlimit { current: memory, maximum: memory }));
    // Exceeding the file size limit is then an error and does not kill the process. SAFETY:
    // ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    return_freed_memory();
    if behind {
        go_behind();
    }
    die_first();
}

/// Makes this process the OOM killer's first choice in this container or machine, which needs no
/// privilege, and lets it open as many files as the system allows.
pub(crate) fn die_first() {
    note("oom_score_adj", std::fs::write("/proc/self/oom_score_adj", "1000"));
    // The soft limit is low for the sake of old programs that use `select`.
    let files = getrlimit(Resource::Nofile).maximum;
    note("open files", setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }));
}

/// Makes glibc return large buffers to the system as soon as they are freed. By default it raises
/// the size from which it does so, up to 32 MiB, and what one worker's arena keeps is of no use to
/// the others: a quarter of peak memory while history is built.
fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    for (parameter, bytes) in
        [(libc::M_MMAP_THRESHOLD, 1 << 20), (libc::M_TRIM_THRESHOLD, 64 << 20)]
    {
        // SAFETY: it takes two numbers.
        let set = unsafe { libc::mallopt(parameter, bytes) };
        debug_assert_eq!(set, 1, "glibc has these parameters");
    }
}

/// Lowers this process's CPU priority below the process that started it. Call it before there are
/// threads.
pub(crate) fn go_behind() {
    note("priority", nice(NICE).map(drop));
}

/// Lowers the calling thread's CPU and disk priority: to `idle`, so that the node and everything
/// else come first, or, while a person is waiting, slightly below normal, because on a busy machine
/// idle priority would never finish. `tests/bench/beside.py` measures what each costs a node that
/// imports blocks. If the system refuses, the work is done at the old priority.
pub(crate) fn lower_priority(idle: bool) {
    // Values of `ioprio_set(2)`: the idle class, or the lowest level of the default best-effort
    // class.
    let disk = if idle { 3 << 13 } else { 2 << 13 | 7 };
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: plain system calls on the calling thread, with a pointer to a live value.
    unsafe {
        if idle {
            libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter);
        } else {
            // Never raises it above that of the process.
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
