//! Runs a program and makes one of its system calls fail, or kills it there.
//!
//! The program is linked statically, so nothing can be preloaded into it: it runs under `ptrace`,
//! and a seccomp filter stops it at the relevant calls only. Calls are counted over all threads,
//! and only those that touch a file below one directory.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::mem::zeroed;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// A kind of system call.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Call {
    /// `open`, `openat` of a file to read.
    Open,
    /// The same of a file to write.
    Create,
    Read,
    Write,
    Pwrite,
    Fsync,
    Fdatasync,
    Rename,
    Truncate,
    Mkdir,
    Link,
    Unlink,
    /// `copy_file_range` and `sendfile`.
    Copy,
    /// `getdents64`
    List,
    /// `statx`, `newfstatat`
    Stat,
}

impl Call {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Open,
        Self::Create,
        Self::Read,
        Self::Write,
        Self::Pwrite,
        Self::Fsync,
        Self::Fdatasync,
        Self::Rename,
        Self::Truncate,
        Self::Mkdir,
        Self::Link,
        Self::Unlink,
        Self::Copy,
        Self::List,
        Self::Stat,
    ];

    /// Whether it changes the volume.
    pub fn changes(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::List | Self::Stat)
    }

    /// Errors it may fail with; the first is tried for every such call.
    pub fn errors(self) -> &'static [i32] {
        match self {
            Self::Open => &[libc::EIO, libc::EMFILE, libc::ENOMEM],
            Self::Create => &[libc::EIO, libc::ENOSPC, libc::EMFILE],
            Self::Read | Self::List | Self::Stat => &[libc::EIO],
            _ => &[libc::EIO, libc::ENOSPC],
        }
    }
}

/// What happens at a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Nothing: calls are listed.
    List,
    /// It fails with this error, and so do this many in total.
    Fail { error: i32, times: u64 },
    /// The process is killed before it.
    Kill,
}

/// A fault: what happens at the N-th call, counted from 1.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which calls are counted.
    pub calls: Vec<Call>,
    pub nth: u64,
    pub act: Act,
    /// From the N-th reading of the clock on, the time of day is off by this many seconds.
    pub clock: Option<(u64, i64)>,
}

impl Fault {
    /// None: every call is listed.
    pub fn none() -> Self {
        Self { calls: Call::ALL.to_vec(), nth: 0, act: Act::List, clock: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.act, self.clock) {
            (_, Some((nth, seconds))) => {
                write!(f, "clock off by {seconds} s from its look {nth} on")
            }
            (Act::List, None) => f.write_str("none"),
            (Act::Kill, None) => write!(f, "kill at change {}", self.nth),
            (Act::Fail { error, times }, None) => {
                write!(f, "{} of {:?} {}", name(error), self.calls[0], self.nth)?;
                if times > 1 { write!(f, " and {} more", times - 1) } else { Ok(()) }
            }
        }
    }
}

/// An error by its name.
pub fn name(error: i32) -> &'static str {
    match error {
        libc::EIO => "EIO",
        libc::ENOSPC => "ENOSPC",
        libc::EMFILE => "EMFILE",
        libc::ENOMEM => "ENOMEM",
        _ => "error",
    }
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code, or none if a signal or the deadline ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub in_time: bool,
    /// What the fault hit.
    pub hit: Option<(Call, PathBuf)>,
    /// With [`Act::List`], every call.
    pub calls: Vec<(Call, PathBuf)>,
    /// Standard output and error.
    pub said: String,
}

/// Runs a command under a fault until it ends, or kills it at the deadline.
pub fn run(command: &mut Command, below: &Path, fault: &Fault, deadline: Duration) -> Ended {
    let clock = fault.clock.is_some();
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stdin(std::process::Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
    // SAFETY: between fork and exec only system calls are made, on memory that was set up before.
    unsafe {
        let filter = filter(clock);
        command.pre_exec(move || trace_me(&filter));
    }
    // The tracer waits for it, by its id.
    #[allow(clippy::zombie_processes)]
    let child = command.spawn().unwrap();
    // The command keeps the pipe's writing ends; replacing them closes them.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let id = i32::try_from(child.id()).unwrap();
    let said = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let (over, watched) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let late = watched.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout);
        if late {
            kill(id);
        }
        !late
    });
    let mut tracer = Tracer {
        id,
        below,
        fault,
        count: 0,
        looks: 0,
        hit: None,
        calls: Vec::new(),
        seen: HashSet::new(),
    };
    let status = tracer.follow();
    drop(over);
    let in_time = watchdog.join().unwrap();
    Ended {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        in_time,
        hit: tracer.hit,
        calls: tracer.calls,
        said: said.join().unwrap().unwrap(),
    }
}

fn kill(id: i32) {
    // SAFETY: `kill` takes two numbers. The process is ours and not yet waited for, or gone.
    unsafe { libc::kill(id, libc::SIGKILL) };
}

/// The relevant system calls, by number.
const NUMBERS: [i64; 27] = [
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_getdents64,
    libc::SYS_statx,
    libc::SYS_newfstatat,
];

/// Calls that yield to other processes: they do nothing, or each run on a busy machine would be a
/// long one.
const COURTESIES: [i64; 3] =
    [libc::SYS_sched_setscheduler, libc::SYS_setpriority, libc::SYS_ioprio_set];

/// A filter that stops the program at those calls, and at readings of the clock if they matter.
fn filter(clock: bool) -> Vec<libc::sock_filter> {
    let step = |code: u32, jt: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    let clock = clock.then_some(libc::SYS_clock_gettime);
    let numbers: Vec<_> = NUMBERS.into_iter().chain(COURTESIES).chain(clock).collect();
    // The call's number is the first field of what a filter sees.
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (index, number) in numbers.iter().enumerate() {
        let to_the_end = (numbers.len() - index) as u8;
        filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_the_end, *number as u32));
    }
    filter.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_TRACE));
    filter
}

/// Lets the parent trace the calling process, from its next `exec` on.
fn trace_me(filter: &[libc::sock_filter]) -> std::io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program outlives the call, which copies it.
    unsafe {
        if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
                0,
                0,
            ) != 0
        {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

struct Tracer<'a> {
    id: i32,
    below: &'a Path,
    fault: &'a Fault,
    count: u64,
    looks: u64,
    hit: Option<(Call, PathBuf)>,
    calls: Vec<(Call, PathBuf)>,
    seen: HashSet<i32>,
}

impl Tracer<'_> {
    /// Follows it to its end, and returns its status.
    fn follow(&mut self) -> i32 {
        loop {
            let mut status = 0;
            // SAFETY: only what this very thread has started is waited for.
            let id =
                unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
            if id < 0 {
                let error = std::io::Error::last_os_error();
                assert_eq!(error.raw_os_error(), Some(libc::EINTR), "waitpid: {error}");
                continue;
            }
            if !libc::WIFSTOPPED(status) {
                if id == self.id {
                    return status;
                }
                continue;
            }
            let signal = match (status >> 16, libc::WSTOPSIG(status)) {
                (libc::PTRACE_EVENT_SECCOMP, _) => {
                    self.look(id);
                    0
                }
                (0, signal) => {
                    let is_new = self.seen.insert(id);
                    if is_new && id == self.id {
                        self.begin();
                    }
                    // A thread begins stopped.
                    if is_new { 0 } else { signal }
                }
                _ => 0,
            };
            request(libc::PTRACE_CONT, id, signal as usize);
        }
    }

    /// The program has just been loaded.
    fn begin(&self) {
        let options = libc::PTRACE_O_TRACESECCOMP
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_EXITKILL;
        request(libc::PTRACE_SETOPTIONS, self.id, options as usize);
        if self.fault.clock.is_some() {
            self.hide_vdso();
        }
    }

    /// Hides the vDSO, by which it would read the clock without a system call.
    fn hide_vdso(&self) {
        let mut at = registers(self.id).rsp;
        // Above the argument count are arguments and environment, each ended by a zero, then pairs.
        at += 8;
        for _ in 0..2 {
            while self.word(at) != 0 {
                at += 8;
            }
            at += 8;
        }
        while self.word(at) != libc::AT_NULL {
            if self.word(at) == libc::AT_SYSINFO_EHDR {
                self.write(at, &libc::AT_IGNORE.to_ne_bytes());
            }
            at += 16;
        }
    }

    /// A call that is about to be made.
    fn look(&mut self, thread: i32) {
        let registers = registers(thread);
        if registers.orig_rax == libc::SYS_clock_gettime as u64 {
            return self.tell_time(thread, registers);
        }
        if COURTESIES.contains(&(registers.orig_rax as i64)) {
            return answer(thread, registers, 0);
        }
        let Some((call, path)) = self.meant(thread, &registers) else { return };
        if !self.fault.calls.contains(&call) {
            return;
        }
        self.count += 1;
        let nth = self.fault.nth;
        match self.fault.act {
            Act::List => self.calls.push((call, path)),
            Act::Kill if self.count == nth => {
                self.hit = Some((call, path));
                kill(self.id);
            }
            Act::Fail { error, times } if (nth..nth + times).contains(&self.count) => {
                self.hit.get_or_insert((call, path));
                answer(thread, registers, i64::from(-error));
            }
            Act::Kill | Act::Fail { .. } => {}
        }
    }

    /// Answers a reading of the clock.
    fn tell_time(&mut self, thread: i32, registers: libc::user_regs_struct) {
        let Some((nth, seconds)) = self.fault.clock else { return };
        if registers.rdi != libc::CLOCK_REALTIME as u64 {
            return;
        }
        self.looks += 1;
        if self.looks < nth {
            return;
        }
        let mut time = [0i64; 2];
        // SAFETY: a timespec is two such numbers here.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, time.as_mut_ptr().cast()) };
        time[0] += seconds;
        self.write(registers.rsi, &time.map(i64::to_ne_bytes).concat());
        answer(thread, registers, 0);
    }

    /// The kind of a call and the file it touches, if that is below the directory.
    fn meant(&self, thread: i32, registers: &libc::user_regs_struct) -> Option<(Call, PathBuf)> {
        let here = libc::AT_FDCWD as u64;
        let &libc::user_regs_struct { rdi, rsi, rdx, r10, .. } = registers;
        let opened =
            |flags: u64| match flags as i32 & (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT) {
                0 => Call::Open,
                _ => Call::Create,
            };
        let file = |descriptor: u64| {
            std::fs::read_link(format!("/proc/{thread}/fd/{}", descriptor as u32)).ok()
        };
        let named = |directory: u64, name: u64| self.path(thread, directory, name);
        let (call, path) = match registers.orig_rax as i64 {
            libc::SYS_open => (opened(rsi), named(here, rdi)),
            libc::SYS_openat => (opened(rdx), named(rdi, rsi)),
            libc::SYS_read | libc::SYS_readv | libc::SYS_pread64 => (Call::Read, file(rdi)),
            libc::SYS_write | libc::SYS_writev => (Call::Write, file(rdi)),
            libc::SYS_pwrite64 => (Call::Pwrite, file(rdi)),
            libc::SYS_fsync => (Call::Fsync, file(rdi)),
            libc::SYS_fdatasync => (Call::Fdatasync, file(rdi)),
            libc::SYS_rename => (Call::Rename, named(here, rsi)),
            libc::SYS_renameat | libc::SYS_renameat2 => (Call::Rename, named(rdx, r10)),
            libc::SYS_ftruncate | libc::SYS_fallocate => (Call::Truncate, file(rdi)),
            libc::SYS_mkdir => (Call::Mkdir, named(here, rdi)),
            libc::SYS_mkdirat => (Call::Mkdir, named(rdi, rsi)),
            libc::SYS_link => (Call::Link, named(here, rsi)),
            libc::SYS_linkat => (Call::Link, named(rdx, r10)),
            libc::SYS_unlink | libc::SYS_rmdir => (Call::Unlink, named(here, rdi)),
            libc::SYS_unlinkat => (Call::Unlink, named(rdi, rsi)),
            libc::SYS_copy_file_range => (Call::Copy, file(rdx)),
            libc::SYS_sendfile => (Call::Copy, file(rdi)),
            libc::SYS_getdents64 => (Call::List, file(rdi)),
            libc::SYS_statx | libc::SYS_newfstatat => (Call::Stat, named(rdi, rsi)),
            _ => return None,
        };
        path.filter(|path| path.starts_with(self.below)).map(|path| (call, path))
    }

    /// The path of a call, relative to a directory that it has open.
    fn path(&self, thread: i32, directory: u64, name: u64) -> Option<PathBuf> {
        let name = self.text(name)?;
        if name.as_bytes().first() == Some(&b'/') {
            return Some(name.into());
        }
        let directory = match directory as i32 {
            libc::AT_FDCWD => std::fs::read_link(format!("/proc/{thread}/cwd")),
            descriptor => std::fs::read_link(format!("/proc/{thread}/fd/{descriptor}")),
        };
        Some(if name.is_empty() { directory.ok()? } else { directory.ok()?.join(name) })
    }

    /// A string in its memory.
    fn text(&self, at: u64) -> Option<OsString> {
        let mut bytes = Vec::new();
        let mut at = at;
        while bytes.len() < 4096 {
            // Not beyond the page: the next one may not exist.
            let mut piece = [0; 256];
            let length = piece.len().min(4096 - (at % 4096) as usize);
            let read = self.read(at, &mut piece[..length])?;
            if let Some(end) = piece[..read].iter().position(|byte| *byte == 0) {
                bytes.extend_from_slice(&piece[..end]);
                return Some(OsString::from_vec(bytes));
            }
            bytes.extend_from_slice(&piece[..read]);
            at += read as u64;
        }
        None
    }

    fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.read(at, &mut word).expect("the stack is there");
        u64::from_ne_bytes(word)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Option<usize> {
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let remote = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: into.len() };
        // SAFETY: `local` is memory of ours, `remote` is checked by the kernel.
        let read = unsafe {
            libc::process_vm_readv(self.id, &raw const local, 1, &raw const remote, 1, 0)
        };
        usize::try_from(read).ok().filter(|read| *read > 0)
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let local =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: bytes.len() };
        // SAFETY: `local` is memory of ours, `remote` is checked by the kernel.
        let written = unsafe {
            libc::process_vm_writev(self.id, &raw const local, 1, &raw const remote, 1, 0)
        };
        assert_eq!(usize::try_from(written), Ok(bytes.len()), "its memory cannot be written");
    }
}

fn registers(thread: i32) -> libc::user_regs_struct {
    // SAFETY: all zeros are valid registers.
    let mut registers: libc::user_regs_struct = unsafe { zeroed() };
    request(libc::PTRACE_GETREGS, thread, &raw mut registers as usize);
    registers
}

/// Makes a call return this without being executed.
fn answer(thread: i32, mut registers: libc::user_regs_struct, result: i64) {
    registers.orig_rax = u64::MAX;
    registers.rax = result as u64;
    request(libc::PTRACE_SETREGS, thread, &raw const registers as usize);
}

/// A ptrace request to a stopped thread, which may have been killed meanwhile.
fn request(request: libc::c_uint, thread: i32, data: usize) {
    // SAFETY: `data` is a number, or the address of registers that live on.
    let done = unsafe { libc::ptrace(request, thread, 0usize, data) };
    if done != 0 {
        let error = std::io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "ptrace {request}: {error}");
    }
}
