//! Volumes that cannot be used, or not yet: each has its message, and none is harmed. They are made
//! with mounts, which only root may do.

use crate::fake_geth::FakeGeth;
use crate::lying_node::{extend, once};
use crate::rig::process::{listing, stderr_of, until};
use crate::rig::{Published, Spyhop, pass_without};
use spyhop::store::{Scratch, Store};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A mounted directory; unmounted on drop.
struct Mount(PathBuf);

impl Mount {
    /// Mounts a file system; `None`, with a message, if that is not permitted.
    fn new(directory: &Path, arguments: &[&str]) -> Option<Self> {
        let path = directory.join("volume");
        fs::create_dir_all(&path).unwrap();
        let output =
            Command::new("mount").args(arguments).arg(&path).output().expect("mount is there");
        if !output.status.success() {
            pass_without(&format!(
                "mount {arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
            return None;
        }
        Some(Self(path))
    }

    fn tmpfs(directory: &Path, options: &str) -> Option<Self> {
        Self::new(directory, &["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    /// Fills the free space with a file, except for this many bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        let free = free_bytes(&self.0).saturating_sub(left);
        let mut rest = vec![1; free as usize + (1 << 20)];
        rest.truncate(if left == 0 { rest.len() } else { free as usize });
        // To the last byte if nothing is to be left.
        let written = file.write_all(&rest);
        assert_eq!(written.is_err(), left == 0, "{written:?}");
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}

fn node(directory: &Path) -> FakeGeth {
    let fake = FakeGeth::start(directory);
    extend(&fake, 10, "");
    fake
}

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("spy").tempdir().unwrap()
}

#[track_caller]
fn refused(complaint: &str, message: &str, hint: &str) {
    assert!(complaint.contains(message), "{message:?} in {complaint}");
    let line = complaint
        .lines()
        .find_map(|line| line.strip_prefix("hint: "))
        .unwrap_or_else(|| panic!("no hint in {complaint}"));
    assert!(line.contains(hint), "{hint:?} in {line}");
}

#[test]
fn read_only_volume_is_refused() {
    let directory = directory();
    let fake = node(directory.path());
    let Some(volume) = Mount::tmpfs(directory.path(), "ro,size=1m") else { return };
    refused(&once(&fake, &volume.0).fail(2), "mounted read-only", "mount it writable");
    // A directory that does not exist yet.
    refused(&once(&fake, &volume.0.join("data")).fail(2), "mounted read-only", "mount it writable");
}

#[test]
fn data_directory_that_is_a_file_is_refused() {
    let directory = directory();
    let fake = node(directory.path());
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    refused(&once(&fake, &file).fail(2), "is not a directory", "give a directory");
    refused(&once(&fake, &file.join("data")).fail(2), "is not a directory", "give a directory");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[test]
fn volume_of_another_owner_is_refused() {
    let directory = directory();
    let fake = node(directory.path());
    let data = directory.path().join("data");
    once(&fake, &data).succeed();
    let without_capabilities = |data: &Path| once(&fake, data).without_capabilities().fail(2);
    let owned = |path: &Path| chown(path, Some(1234), Some(1234));
    if owned(&data).is_err() {
        pass_without("permission to give a file away");
        return;
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let before = listing(&data);
    let complaint = without_capabilities(&data);
    refused(
        &complaint,
        "cannot be written by user 0: it belongs to 1234:1234 with mode 0755",
        "--user 1234:1234",
    );
    // The directory is ours, but not its content.
    chown(&data, Some(0), Some(0)).unwrap();
    owned(&data.join(".spyhop/lock")).unwrap();
    let complaint = without_capabilities(&data);
    refused(&complaint, ".spyhop/lock` cannot be written by user 0", "chown -R 0");
    assert_eq!(listing(&data), before);
    // In another user's directory nothing can be created either.
    let locked = directory.path().join("locked");
    fs::create_dir(&locked).unwrap();
    owned(&locked).unwrap();
    refused(
        &without_capabilities(&locked.join("data")),
        "cannot be written by user 0",
        "--user 1234:1234",
    );
}

#[test]
fn volume_of_another_version_is_refused_and_not_touched() {
    let directory = directory();
    let fake = node(directory.path());
    let data = directory.path().join("data");
    once(&fake, &data).succeed();
    let path = data.join(".spyhop/chain.json");
    let text = fs::read_to_string(&path).unwrap();
    let others = [
        ("99", "a newer", "run that one or a later one"),
        ("1", "an older", "a data directory of its own"),
    ];
    for (format, which, hint) in others {
        fs::write(&path, text.replace("\"format\": 2", &format!("\"format\": {format}"))).unwrap();
        let before = listing(&data);
        refused(
            &once(&fake, &data).fail(2),
            &format!("written by {which} spyhop (format {format}"),
            hint,
        );
        assert_eq!(listing(&data), before);
    }
}

#[test]
fn volume_that_is_full_at_the_start_is_waited_for() {
    let directory = directory();
    let fake = node(directory.path());
    let Some(volume) = Mount::tmpfs(directory.path(), "size=16m") else { return };
    let filler = volume.fill(0);
    let data = volume.0.join("data");
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["waiting for space", "No space left on device"]);
    fs::remove_file(filler).unwrap();
    // Memory is no place to keep data.
    watch.wait_for(&["lost with the container", "tmpfs"]);
    watch.wait_for(&["tip=10"]);
    watch.stop();
    assert_eq!(Published::open(&data).number("SELECT count(*) FROM blocks"), 11);
}

#[test]
fn volume_that_fills_is_waited_for_and_nothing_is_lost() {
    let directory = directory();
    let fake = node(directory.path());
    let Some(volume) = Mount::tmpfs(directory.path(), "size=64m") else { return };
    let data = volume.0.join("data");
    let mut watch =
        Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--finality-depth", "20"]).spawn();
    watch.wait_for(&["tip=10"]);
    let mut head = 10;
    // Down to the reserve for geth, and down to nothing.
    for left in [4 << 20, 0] {
        let filler = volume.fill(left);
        head += 200;
        extend(&fake, head, "");
        watch.wait_for(&["waiting for space"]);
        assert!(Published::open(&data).number("SELECT max(number) FROM blocks") < head);
        fs::remove_file(filler).unwrap();
        until(&mut watch, "the blocks that were waited for", || {
            let published = Published::try_open(&data).ok()?;
            (published.number("SELECT count(*) FROM blocks") == head + 1).then_some(())
        });
    }
    watch.stop();
    assert_eq!(Published::open(&data).number("SELECT count(DISTINCT hash) FROM blocks"), head + 1);
}

#[test]
fn volume_that_is_full_at_the_end_is_left_whole() {
    let directory = directory();
    let fake = node(directory.path());
    let Some(volume) = Mount::tmpfs(directory.path(), "size=16m") else { return };
    let data = volume.0.join("data");
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["tip=10"]);
    let filler = volume.fill(0);
    extend(&fake, 20, "");
    watch.wait_for(&["waiting for space"]);
    watch.stop();
    fs::remove_file(filler).unwrap();
    once(&fake, &data).succeed();
    assert_eq!(Published::open(&data).number("SELECT count(*) FROM blocks"), 21);
}

#[test]
fn fuse_is_warned_of_and_used() {
    let directory = directory();
    let fake = node(directory.path());
    let behind = directory.path().join("behind");
    let volume = directory.path().join("volume");
    for path in [&behind, &volume] {
        fs::create_dir(path).unwrap();
    }
    let mounted = Command::new("bindfs").arg(&behind).arg(&volume).output();
    if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
        pass_without(&format!("FUSE: {mounted:?}"));
        return;
    }
    let volume = Mount(volume);
    let output = once(&fake, &volume.0).run();
    let said = stderr_of(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("locks, renames and syncs are known to be unreliable")
            && said.contains("FUSE"),
        "{said}"
    );
    assert_eq!(Published::open(&behind).number("SELECT count(*) FROM blocks"), 11);
}

#[test]
fn copy_of_the_sealed_files_is_a_backup() {
    let directory = directory();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 350, "");
    fake.chain().finalized = Some(320);
    let (data, backup) = (directory.path().join("data"), directory.path().join("backup"));
    once(&fake, &data).succeed();
    fs::create_dir_all(backup.join(".spyhop")).unwrap();
    let copied =
        Command::new("cp").arg("-r").arg(data.join("chain")).arg(&backup).status().unwrap();
    assert!(copied.success());
    fs::copy(data.join(".spyhop/chain.json"), backup.join(".spyhop/chain.json")).unwrap();
    let sealed = listing(&backup.join("chain"));
    once(&fake, &backup).succeed();
    assert_eq!(listing(&backup.join("chain")), sealed);
    assert_eq!(Published::open(&backup).digests(), Published::open(&data).digests());
}

#[test]
fn a_backfill_that_does_not_fit_is_refused_and_stored_blocks_stay() {
    let directory = directory();
    let Some(volume) = Mount::tmpfs(directory.path(), "size=12m") else { return };
    let data = volume.0.join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 120_000, "");
    fake.chain().finalized = Some(119_950);
    let complaint = once(&fake, &data).fail(2);
    assert!(complaint.contains("estimated disk for the backfill"), "{complaint}");
    refused(&complaint, "more blocks will take about", "choose a later --from");
    // The first range shows how large a block is: it is stored, and published. A second worker's
    // range may be stored too.
    let stored = || Published::open(&data).check_prefix(0);
    let first = stored();
    assert!(matches!(first, Some(999 | 1_999)), "{first:?}");
    // The next start knows that, too, before it builds more.
    refused(&once(&fake, &data).fail(2), "more blocks will take about", "choose a later --from");
    assert_eq!(stored(), first);
    let ranges = spyhop::store::read_ranges(&data).unwrap();
    assert_eq!(ranges.last().map(|range| range.last), first);
}

#[test]
fn scratch_of_a_reader_is_left_alone_by_a_writer_and_goes_with_the_reader() {
    let directory = directory();
    let data = directory.path().join("data");
    drop(Store::open(&data).unwrap());
    let scratch = Scratch::new(&data);
    let file = scratch.directory().unwrap().join("file");
    fs::write(&file, "precious").unwrap();
    drop(Store::open(&data).unwrap());
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    // A killed reader's leftover is removed.
    let left = data.join(".spyhop/scratch/1-2");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("file"), "").unwrap();
    fs::write(left.with_extension("lock"), "").unwrap();
    drop(Store::open(&data).unwrap());
    assert!(!left.exists() && file.exists());
    drop(scratch);
    assert_eq!(fs::read_dir(data.join(".spyhop/scratch")).unwrap().count(), 0);
}

#[test]
fn a_data_directory_of_any_name_works_or_is_refused_at_start() {
    let directory = directory();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 120, "");
    fake.chain().finalized = Some(110);
    let works = [
        "a*b",
        "a[b]",
        "it's",
        "q\"q",
        "100%41",
        "two\nlines",
        "other=7",
        ":memory:",
        "md:x",
        "~",
        "{a}",
        "a;b",
        " x ",
        "\u{202e}ü",
        "x.duckdb",
    ];
    for name in works {
        let data = directory.path().join(name);
        once(&fake, &data).succeed();
        assert!(
            data.join("chain/first=0000000000/last=0000000099").exists(),
            "{name:?}: nothing was sealed"
        );
        let found = Published::open(&data);
        assert_eq!(found.number("SELECT count(*) FROM blocks"), 121, "{name:?}");
        assert_eq!(
            found
                .value(
                    "SELECT number || ' ' || first || ' ' || last
                    FROM sealed.blocks
                    WHERE number = 7"
                )
                .as_deref(),
            Some("7 0 99")
        );
        let asked = Spyhop::new("sql").path("--data", &data).args(&[
            "--format",
            "csv",
            "-c",
            "SELECT count(*) FROM block(7)",
        ]);
        assert_eq!(asked.succeed().lines().last(), Some("1"), "{name:?}");
    }
    // A relative name that looks like a scheme.
    let mut command = Command::new(env!("CARGO_BIN_EXE_spyhop"));
    command
        .current_dir(directory.path())
        .args(["watch", "--once", "--from", "0", "--data", "s3://x", "--ipc"])
        .arg(fake.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));

    let refused_names: [&[u8]; 10] = [
        b"a,b",
        b"{a,b}",
        b"a?b",
        b"a\\b",
        b"first=7",
        b"LAST=x",
        b"hash=1/deeper",
        b"number=",
        b"\xff",
        b"x,/y/z",
    ];
    let link = directory.path().join("link");
    fs::create_dir(directory.path().join("behind,it")).unwrap();
    std::os::unix::fs::symlink(directory.path().join("behind,it"), &link).unwrap();
    let names = refused_names.map(|name| directory.path().join(std::ffi::OsStr::from_bytes(name)));
    let before = fs::read_dir(directory.path()).unwrap().count();
    for data in names.iter().chain([&link, &link.join("new")]) {
        refused(
            &once(&fake, data).fail(2),
            "cannot be the data directory: DuckDB does not accept",
            "rename it",
        );
    }
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        before,
        "nothing is made where it is refused"
    );
    // Patterns matter in absolute names only: they would show other directories' rows.
    let data = directory.path().join("a*b");
    refused(
        &once(&fake, &data).path("--published-path", &data).fail(2),
        "DuckDB does not accept `*`",
        "rename it",
    );
}

#[test]
fn link_inside_the_data_directory_is_refused_and_nothing_is_written_through_it() {
    let directory = directory();
    let fake = node(directory.path());
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("precious"), "precious").unwrap();
    let before = listing(&elsewhere);
    for name in [
        "chain",
        "tail",
        "quarantine",
        "whales",
        ".spyhop",
        ".spyhop/reorgs",
        ".spyhop/lock",
        ".spyhop/heartbeat",
    ] {
        let data = directory.path().join(format!("data{}", name.replace('/', "-")));
        once(&fake, &data).succeed();
        let path = data.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        let is_file = [".spyhop/lock", ".spyhop/heartbeat"].contains(&name);
        let target = if is_file { elsewhere.join("precious") } else { elsewhere.clone() };
        symlink(target, &path).unwrap();
        refused(&once(&fake, &data).fail(2), "is a symbolic link", "remove it");
        assert_eq!(listing(&elsewhere), before, "{name}");
    }
}

#[test]
fn file_in_the_place_of_one_that_is_written_is_replaced_and_not_followed() {
    let directory = directory();
    let fake = node(directory.path());
    let data = directory.path().join("data");
    once(&fake, &data).succeed();
    let precious = directory.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    let files = ["heartbeat.new", "chain.new", "tmp"].map(|name| data.join(".spyhop").join(name));
    let published = ["spyhop.duckdb", "spyhop-absolute.duckdb"].map(|name| data.join(name));
    for path in files.iter().chain(&published) {
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir_all(path);
        symlink(&precious, path).unwrap();
    }
    // A link to another file: it is locked, and not written to.
    let lock = data.join(".spyhop/lock");
    fs::remove_file(&lock).unwrap();
    fs::hard_link(&precious, &lock).unwrap();
    extend(&fake, 12, "");
    once(&fake, &data).args(&["--published-path", data.to_str().unwrap()]).succeed();
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    assert_eq!(Published::open(&data).number("SELECT count(*) FROM blocks"), 13);
    // The directory itself may be a link.
    let link = directory.path().join("link");
    symlink(&data, &link).unwrap();
    extend(&fake, 13, "");
    once(&fake, &link).succeed();
    assert_eq!(Published::open(&data).number("SELECT count(*) FROM blocks"), 14);
}

#[test]
fn volume_has_one_writer_though_its_lock_is_removed() {
    let directory = directory();
    let fake = node(directory.path());
    let data = directory.path().join("data");
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    watch.wait_for(&["tip=10"]);
    let lock = data.join(".spyhop/lock");
    fs::remove_file(&lock).unwrap();
    refused(&once(&fake, &data).fail(2), "another spyhop writes to", "stop it first");
    // It is recreated, for processes that check for a writer.
    until(&mut watch, "a lock", || lock.exists().then_some(()));
    let status = || Spyhop::new("status").path("--data", &data).succeed();
    assert!(status().contains("writer       running"));
    // Checking prevents nobody from starting.
    watch.stop();
    assert!(status().contains("writer       not running"));
    // Another directory under the same name is another volume.
    let mut watch = Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).spawn();
    extend(&fake, 11, "");
    let published = || {
        Published::try_open(&data)
            .ok()
            .filter(|found| found.number("SELECT count(*) FROM blocks") == 12)
    };
    until(&mut watch, "the next block", published);
    fs::rename(&data, directory.path().join("moved")).unwrap();
    fs::create_dir_all(data.join(".spyhop")).unwrap();
    watch.wait_for(&["error: ", "was replaced while it was being written"]);
    assert_eq!(watch.wait().code(), Some(1));
}

#[test]
fn files_have_the_same_modes_with_any_umask() {
    let directory = directory();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 120, "");
    fake.chain().finalized = Some(110);
    let modes = |umask: &str| {
        let data = directory.path().join(format!("data{umask}"));
        let script = format!("umask {umask}; exec \"$@\"");
        once(&fake, &data).by("sh", &["-c", &script, "sh"]).succeed();
        let mut modes = Vec::new();
        let mut left = vec![data];
        while let Some(path) = left.pop() {
            let metadata = fs::symlink_metadata(&path).unwrap();
            modes.push((metadata.is_dir(), metadata.permissions().mode() & 0o7777));
            if metadata.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        modes.sort_unstable();
        modes.dedup();
        modes
    };
    for umask in ["000", "022", "077", "777"] {
        assert_eq!(modes(umask), [(false, 0o644), (true, 0o755)], "umask {umask}");
    }
}

#[test]
fn a_file_where_a_directory_of_the_volume_belongs_is_refused_by_name() {
    for name in ["chain", "tail", "quarantine", "whales", ".spyhop/reorgs", ".spyhop/scratch"] {
        let directory = tempfile::tempdir().unwrap();
        let (fake, data) = (FakeGeth::start(directory.path()), directory.path().join("data"));
        extend(&fake, 3, "");
        let watch = || Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]);
        watch().succeed();
        let path = data.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        fs::write(&path, "").unwrap();
        let error = watch().fail(2);
        assert!(
            error.contains(&format!("{name}` is not a directory"))
                && error.contains("move it away"),
            "{error}"
        );
        fs::remove_file(&path).unwrap();
        watch().succeed();
        assert_eq!(Published::open(&data).number("SELECT count(*) FROM blocks"), 4, "{name}");
    }
}
