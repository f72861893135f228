//! Free SQL on a kernel without Landlock: only from a volume that is mounted read-only.
//!
//! The server runs in a mount namespace of its own, in which its volume is read-only, with a system
//! call filter that answers like an older kernel.

use crate::rig::http::Server;
use crate::rig::{Forks, Geth, Spyhop, pass_without, process::listing};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::ptr::null;

/// Makes Landlock's first call fail with ENOSYS.
fn no_landlock() -> BpfProgram {
    let call = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(call, SeccompAction::Allow, missing, arch).unwrap().try_into().unwrap()
}

fn done(returned: i32) -> io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `spyhop serve --sql` as on a kernel without Landlock; `mount` says whether the volume is mounted
/// read-only for it.
fn serve(data: &Path, token: &Path, mount: bool) -> Spyhop {
    let program = no_landlock();
    let place = CString::new(data.as_os_str().as_bytes()).unwrap();
    let command = Spyhop::new("serve").path("--data", data).path("--token-file", token);
    command.args(&["--http", "127.0.0.1:0", "--sql"]).prepared(move || {
        let mount_on = |from, on, flags| {
            // SAFETY: the texts end with NUL, and live as long as the call.
            done(unsafe { libc::mount(from, on, null(), flags, null()) })
        };
        let place = place.as_ptr();
        // SAFETY: it takes a number.
        done(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        mount_on(null(), c"/".as_ptr(), libc::MS_REC | libc::MS_PRIVATE)?;
        if mount {
            mount_on(place, place, libc::MS_BIND)?;
            mount_on(null(), place, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY)?;
        }
        apply_filter(&program).map_err(|_| io::Error::last_os_error())
    })
}

#[test]
fn without_landlock_free_sql_needs_a_volume_mounted_read_only() {
    let may_mount = Command::new("unshare").args(["-m", "true"]).status();
    if !may_mount.is_ok_and(|status| status.success()) {
        return pass_without("permission to mount");
    }
    let geth = Geth::start(Forks::OSAKA);
    geth.blocks(120, "");
    geth.finalize(110);
    let data = geth.data("data");
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    let token = data.join("../token");
    let refused = serve(&data, &token, false).fail(1);
    assert!(refused.contains("Landlock") && refused.contains("read-only"), "{refused}");

    let before = listing(&data);
    let server = Server::of(serve(&data, &token, true));
    let bearer = format!("Bearer {}", std::fs::read_to_string(&token).unwrap().trim());
    let ask = |sql: &str| server.post("/api/v1/sql", &[("Authorization", &bearer)], sql);
    let reply = ask("SELECT count(*) AS n, max(number) AS head FROM blocks");
    assert_eq!(reply.json()["rows"], json!([[121, 120]]), "{reply:?}");
    for (sql, said) in [
        ("COPY (SELECT 1) TO 'chain/a'", "only one SELECT"),
        ("SELECT * FROM read_text('/etc/passwd')", "Permission Error"),
        ("SELECT * FROM read_text('.spyhop/chain.json')", "Permission Error"),
        ("SELECT * FROM enable_logging(storage = 'file', storage_path = 'chain')", ""),
        ("SELECT * FROM enable_profiling(save_location = 'chain/profile')", ""),
    ] {
        let reply = ask(sql);
        assert!(reply.status == 400 || said.is_empty(), "{sql}: {reply:?}");
        assert!(reply.text().contains(said), "{sql}: {reply:?}");
    }
    assert_eq!(listing(&data), before);
    assert_eq!(ask("SELECT 1 AS one").json()["rows"], json!([[1]]));
}
