//! `spyhop metrics`, and the alert rules and the dashboard that use its names.

use crate::fake_geth::{FakeGeth, Fault, When};
use crate::lying_node::extend;
use crate::rig::{Spyhop, process::stderr_of};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn metrics(data: &Path) -> String {
    Spyhop::new("metrics").path("--data", data).succeed()
}

/// The value of each series.
fn series(text: &str) -> BTreeMap<&str, u64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect()
}

fn counts(data: &Path, sql: &str) -> Vec<(String, u64)> {
    let csv =
        Spyhop::new("sql").path("--data", data).args(&["--format", "csv", "-c", sql]).succeed();
    let rows = csv.lines().skip(1).map(|line| line.rsplit_once(',').unwrap());
    rows.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect()
}

/// Whether promtool accepts it; its messages fail the test if not.
fn promtool(arguments: &[&str], input: &str) {
    let tool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut tool = match tool {
        Ok(tool) => tool,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool: {error}");
            eprintln!("NOT TESTED: promtool {arguments:?}: {error}");
            return;
        }
    };
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {printed}");
}

#[test]
fn metrics_are_what_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 250, "");
    fake.chain().finalized = Some(210);
    // It fails its check once, and fetching it again helps.
    fake.fault(
        Fault::Replace(b"[\"0x02\"]".to_vec()),
        When::method("debug_getRawReceipts").block(42),
    );
    let output = Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).run();
    assert!(output.status.success(), "{}", stderr_of(&output));
    let text = metrics(&data);
    let found = series(&text);
    promtool(&["check", "metrics"], &text);

    let tables = counts(&data, "SELECT DISTINCT table_name, 0 FROM coverage ORDER BY 1");
    assert!(tables.len() > 10, "{tables:?}");
    let counted: Vec<_> = tables
        .iter()
        .map(|(table, _)| format!("SELECT '{table}', (SELECT count(*) FROM {table})"))
        .collect();
    for (table, count) in counts(&data, &counted.join(" UNION ALL ")) {
        assert_eq!(found[&format!("spyhop_rows{{table=\"{table}\"}}")[..]], count, "{table}");
    }
    let blocks = "SELECT table_name || ';' || status, sum(last_block - first_block + 1) FROM coverage GROUP BY 1";
    for (name, count) in counts(&data, blocks) {
        let (table, state) = name.split_once(';').unwrap();
        let name = format!("spyhop_coverage_blocks{{table=\"{table}\",state=\"{state}\"}}");
        assert_eq!(found[&name[..]], count, "{name}");
    }
    let stage = |stage: &str| found[&format!("spyhop_block{{stage=\"{stage}\"}}")[..]];
    assert_eq!(
        ["head", "finalized", "stored", "sealed", "published"].map(stage),
        [250, 210, 250, 199, 250]
    );
    let timestamp = found["spyhop_block_timestamp_seconds{stage=\"published\"}"];
    assert_eq!(timestamp, 1_700_000_000 + 12 * 250);
    assert_eq!(found["spyhop_proof_failures_total"], 1);
    assert_eq!(found["spyhop_writer_running"], 0);
    assert_eq!(found["spyhop_writer_healthy"], 1);
    assert_eq!(found["spyhop_reorgs_total"], 0);
    let receipts = |outcome| {
        format!(
            "spyhop_rpc_requests_total{{method=\"debug_getRawReceipts\",outcome=\"{outcome}\"}}"
        )
    };
    // One a block and one again, and those whose connection was dropped because of that one.
    assert!((252..270).contains(&found[&receipts("answered")[..]]), "{text}");
    assert!(found.contains_key(&receipts("failed")[..]), "{text}");
    assert!(!text.contains("\"0x"), "no label is an address or a hash: {text}");
}

#[test]
fn a_volume_without_anything_has_metrics_and_a_missing_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let text = metrics(directory.path());
    let found = series(&text);
    assert_eq!(found["spyhop_writer_running"], 0);
    assert_eq!(found["spyhop_sealed_ranges"], 0);
    assert!(!text.contains("spyhop_block{"), "{text}");
    let none = directory.path().join("none");
    for command in [Spyhop::new("metrics"), Spyhop::new("serve").args(&["--http", "0"])] {
        let error = command.path("--data", &none).fail(2);
        let named = format!("no data directory: `{}`", none.display());
        assert!(error.contains(&named) && error.contains("hint: give the directory"), "{error}");
    }
}

#[test]
fn rules_and_dashboard_use_metrics_that_exist() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 20, "");
    Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
    let text = metrics(&data);
    // Only while history is built.
    let mut known = BTreeSet::from(["spyhop_build_blocks_per_second"]);
    known.extend(series(&text).keys().map(|name| name.split('{').next().unwrap()));
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/grafana");
    for file in ["alerts.yaml", "alerts.test.yaml", "spyhop.json"] {
        let used = std::fs::read_to_string(home.join(file)).unwrap();
        let names: BTreeSet<_> = used
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("spyhop_"))
            .collect();
        assert!(names.len() > 5, "{file}: {names:?}");
        assert_eq!(names.difference(&known).collect::<Vec<_>>(), [] as [&&str; 0], "{file}");
    }
    let path = |file| home.join(file).display().to_string();
    promtool(&["check", "rules", &path("alerts.yaml")], "");
    promtool(&["test", "rules", &path("alerts.test.yaml")], "");
}
