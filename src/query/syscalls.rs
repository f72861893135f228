//! The system calls of a worker that runs a query: reading open files, opening more for reading,
//! memory, threads of its own, the clock, and the end. Everything else fails with EPERM: sockets,
//! other processes, links, renames, and whatever the kernel learns next.

use anyhow::{Context, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Calls that are allowed with any arguments.
const PLAIN: &[i64] = &[
    // Open files.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_getdents64,
    libc::SYS_ppoll,
    // Names.
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_membarrier,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals to itself.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // About itself and the machine.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // Fails with ENOSYS, see `programs`.
    libc::SYS_clone3,
];

/// The same, of the architectures that kept older forms.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_access,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Flags of `openat` that are not for reading.
const WRITES: i32 = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;

/// Flags of `clone` that every thread has and no process.
const THREAD: i32 = libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND;

/// `prctl` that names mapped memory, as glibc does.
const PR_SET_VMA: i32 = 0x5356_4d41;

/// The programs to load, in this order.
///
/// The first makes `clone3` fail with ENOSYS: its flags are in memory, which no filter sees, and
/// then the C library uses `clone`.
pub(super) fn programs(process: u32) -> Result<[BpfProgram; 2]> {
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([
        compile(clone3, SeccompAction::Allow, missing)?,
        compile(allowed(process)?, refused, SeccompAction::Allow)?,
    ])
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn compile(rules: Rules, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).context("no system call filter")?;
    let filter = SeccompFilter::new(rules, others, these, arch).context("system call filter")?;
    filter.try_into().context("system call filter")
}

fn allowed(process: u32) -> Result<Rules> {
    let mut rules: Rules = PLAIN.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    let not_executable = |argument| bits(argument, libc::PROT_EXEC, 0);
    for (call, conditions) in [
        (libc::SYS_openat, vec![bits(2, WRITES, libc::O_RDONLY)?]),
        (libc::SYS_mmap, vec![not_executable(2)?]),
        (libc::SYS_mprotect, vec![not_executable(2)?]),
        (libc::SYS_clone, vec![bits(0, THREAD, THREAD)?]),
        (libc::SYS_tgkill, vec![equal(0, process.into())?]),
        // Reading a limit of its own.
        (libc::SYS_prlimit64, vec![equal(0, 0)?, null(2)?]),
    ] {
        rules.insert(call, vec![SeccompRule::new(conditions)?]);
    }
    let one_of = |argument, values: &[i32]| {
        let rule = |value: &i32| Ok(SeccompRule::new(vec![equal(argument, *value as u64)?])?);
        values.iter().map(rule).collect::<Result<Vec<_>>>()
    };
    rules.insert(libc::SYS_prctl, one_of(0, &[libc::PR_SET_NAME, PR_SET_VMA])?);
    // Read locks, and what an open file is.
    let about_files = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_GETLK, libc::F_SETLK];
    rules.insert(libc::SYS_fcntl, one_of(1, &about_files)?);
    Ok(rules)
}

/// These bits of an argument have this value.
fn bits(argument: u8, mask: i32, value: i32) -> Result<SeccompCondition> {
    let masked = SeccompCmpOp::MaskedEq(mask as u64);
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, masked, value as u64);
    Ok(condition?)
}

/// An argument of 32 bits has this value.
fn equal(argument: u8, value: u64) -> Result<SeccompCondition> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?)
}

/// A pointer is null.
fn null(argument: u8) -> Result<SeccompCondition> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?)
}
