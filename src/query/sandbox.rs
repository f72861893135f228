//! What a thread and those it starts can still do: read the files below some directories.

use super::syscalls;
use anyhow::{Context, Result, bail};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::fs::{StatVfsMountFlags, statvfs};
use std::path::Path;

/// The newest version of Landlock of which everything is asked for; older kernels have less.
const NEWEST: ABI = ABI::V6;

/// What is said where a volume cannot be protected.
const NO_LANDLOCK: &str = "free SQL needs Landlock, and this kernel has none or does not let this \
    process use it: run it on Linux 5.13 or later with `landlock` among the kernel's `lsm=` \
    modules, or mount the data directory read-only for this process";

/// Checks that [`close`] will work for this volume.
///
/// # Errors
/// If the kernel has no Landlock, unless the volume is mounted read-only.
pub(super) fn check(volume: &Path) -> Result<()> {
    let hard = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    // A ruleset that is dropped restricts nothing.
    let created = hard.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create);
    if created.is_ok() || is_read_only(volume)? { Ok(()) } else { bail!(NO_LANDLOCK) }
}

/// Closes the sandbox around the calling thread and those that it starts from now on.
///
/// # Errors
/// If a part of it cannot be had; the thread must do nothing more then.
pub(super) fn close(volume: &Path, readable: &[&str]) -> Result<()> {
    let paths = readable.iter().map(|name| volume.join(name));
    let access = AccessFs::ReadFile | AccessFs::ReadDir;
    // Missing directories are left out.
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(paths, access))?
        .restrict_self()?;
    if restricted.ruleset == RulesetStatus::NotEnforced && !is_read_only(volume)? {
        bail!(NO_LANDLOCK);
    }
    for program in syscalls::programs(std::process::id())? {
        seccompiler::apply_filter(&program).context("failed to load a system call filter")?;
    }
    Ok(())
}

fn is_read_only(volume: &Path) -> Result<bool> {
    let mount = statvfs(volume).with_context(|| format!("statvfs: `{}`", volume.display()))?;
    Ok(mount.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use seccompiler::{SeccompAction, SeccompFilter};
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;
    use std::process::Command;
    use std::thread;

    /// Runs something on a thread of its own: the sandbox holds only threads.
    fn apart(work: impl FnOnce() + Send + 'static) {
        thread::spawn(work).join().unwrap();
    }

    #[test]
    fn inside_files_can_be_read_and_nothing_else_can_be_done() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        for name in ["chain/a", "other/a"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "kept").unwrap();
        }
        std::os::unix::fs::symlink(root.join("other/a"), root.join("chain/link")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut open = File::options().append(true).open(root.join("other/a")).unwrap();
        let inside = root.clone();
        apart(move || {
            let root = inside;
            close(&root, &["chain", "missing"]).unwrap();
            let denied = |outcome: std::io::Result<()>, what: &str| {
                let error = outcome.expect_err(what);
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
            };
            assert_eq!(fs::read_to_string(root.join("chain/a")).unwrap(), "kept");
            assert_eq!(fs::read_dir(root.join("chain")).unwrap().count(), 2);
            let within = thread::spawn(move || {
                let chain = root.join("chain");
                denied(fs::read(root.join("other/a")).map(drop), "read elsewhere");
                denied(fs::read(chain.join("link")).map(drop), "read through a link");
                denied(fs::read(chain.join("../other/a")).map(drop), "read above");
                denied(fs::read("/etc/passwd").map(drop), "read the system's");
                denied(fs::read("/proc/self/environ").map(drop), "read the environment");
                denied(fs::read_dir(&root).map(drop), "list");
                denied(fs::write(chain.join("a"), "x"), "overwrite");
                denied(File::create(chain.join("new")).map(drop), "create");
                denied(File::options().append(true).open(chain.join("a")).map(drop), "append");
                denied(fs::remove_file(chain.join("a")), "remove");
                denied(fs::rename(chain.join("a"), chain.join("b")), "rename");
                denied(fs::hard_link(chain.join("a"), chain.join("b")), "link");
                denied(std::os::unix::fs::symlink("a", chain.join("b")), "link");
                denied(fs::create_dir(chain.join("new")), "create a directory");
                denied(
                    fs::set_permissions(&chain, fs::metadata(&chain).unwrap().permissions()),
                    "chmod",
                );
                denied(TcpStream::connect(address).map(drop), "connect");
                denied(TcpListener::bind("127.0.0.1:0").map(drop), "listen");
                denied(UdpSocket::bind("127.0.0.1:0").map(drop), "send");
                denied(UnixListener::bind(chain.join("socket")).map(drop), "bind");
                denied(Command::new("/bin/true").status().map(drop), "run a program");
                // SAFETY: calls that take numbers, and are refused.
                for (what, returned) in unsafe {
                    [
                        ("ptrace", libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0)),
                        ("kill", libc::kill(libc::getppid(), 0).into()),
                        ("another user", libc::syscall(libc::SYS_setuid, 0)),
                        ("fork", libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0)),
                        ("unshare", libc::unshare(libc::CLONE_NEWUSER).into()),
                        (
                            "a new limit",
                            libc::setrlimit(libc::RLIMIT_CORE, &raw const NO_LIMIT).into(),
                        ),
                        (
                            "run memory",
                            libc::mprotect(std::ptr::null_mut(), 4096, libc::PROT_EXEC).into(),
                        ),
                    ]
                } {
                    assert_eq!(returned, -1, "{what}");
                    let error = std::io::Error::last_os_error();
                    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{what}: {error}");
                }
            });
            within.join().unwrap();
            // What was open stays so.
            open.write_all(b"!").unwrap();
        });
        assert_eq!(fs::read_to_string(root.join("chain/a")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(root.join("other/a")).unwrap(), "kept!");
        assert_eq!(fs::read_dir(root.join("chain")).unwrap().count(), 2);
    }

    static NO_LIMIT: libc::rlimit =
        libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };

    #[test]
    fn without_landlock_only_a_volume_mounted_read_only_is_served() {
        let directory = tempfile::tempdir().unwrap();
        let writable = directory.path().to_owned();
        check(&writable).unwrap();
        apart(move || {
            // As on an older kernel.
            let none = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
            let missing = SeccompAction::Errno(libc::ENOSYS as u32);
            let arch = std::env::consts::ARCH.try_into().unwrap();
            let filter = SeccompFilter::new(none, SeccompAction::Allow, missing, arch).unwrap();
            let program = seccompiler::BpfProgram::try_from(filter).unwrap();
            seccompiler::apply_filter(&program).unwrap();
            let refused = check(&writable).unwrap_err().to_string();
            assert!(refused.contains("Landlock") && refused.contains("read-only"), "{refused}");
            let refused = close(&writable, &[]).unwrap_err().to_string();
            assert!(refused.contains("Landlock"), "{refused}");
        });
    }
}
