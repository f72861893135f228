//! The release binary has no dependencies: it runs in an empty root.

use crate::fake_geth::FakeGeth;
use crate::lying_node::extend;
use crate::rig::Spyhop;
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_spyhop");

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn it_has_no_dynamic_dependency() {
    let file = output(Command::new("file").args(["--brief", "--dereference", BINARY]));
    assert!(
        file.contains("ELF")
            && (file.contains("statically linked") || file.contains("static-pie linked")),
        "{file}"
    );
    let ldd = output(Command::new("ldd").arg(BINARY));
    assert!(ldd.contains("statically linked") || ldd.contains("not a dynamic executable"), "{ldd}");
}

#[test]
fn it_runs_in_a_root_without_anything_else() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::copy(BINARY, root.join("spyhop")).unwrap();
    let fake = FakeGeth::start(&root);
    extend(&fake, 120, "");
    fake.chain().finalized = Some(110);
    // What every container runtime puts into a root.
    std::fs::create_dir(root.join("dev")).unwrap();
    let devices = ["random", "urandom"];
    devices.iter().for_each(|device| std::fs::write(root.join("dev").join(device), "").unwrap());
    let enter =
        "for device in random urandom; do mount --bind /dev/$device \"$0/dev/$device\"; done
        exec env -i /usr/sbin/chroot \"$0\" /spyhop \"$@\"";
    let inside = |arguments: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--map-root-user", "sh", "-ec", enter]).arg(&root).args(arguments);
        let output = unshare.output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    // What it needs besides its file: the node's socket and a volume.
    inside(&["watch", "--ipc", "/geth.ipc", "--data", "/data", "--from", "0", "--once"]);
    let sql =
        ["sql", "--data", "/data", "--format", "csv", "-c", "SELECT count(*) AS n FROM blocks"];
    assert_eq!(inside(&sql), "n\n121\n");
    assert!(inside(&["status", "--data", "/data"]).contains("tail         100 to 120"));
    // The same volume from outside.
    let outside = Spyhop::new("sql").path("--data", &root.join("data"));
    assert_eq!(
        outside.args(&["--format", "csv", "-c", "SELECT max(number) FROM blocks"]).succeed(),
        "max(number)\n120\n"
    );
}
