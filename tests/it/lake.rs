//! `spyhop lake`: Delta tables whose every version reads whole.

mod kills;
pub mod log;
mod scene;

use crate::fake_geth::FakeGeth;
use crate::lying_node::extend;
use crate::rig::process::{listing, stderr_of};
use crate::rig::{Published, Spyhop};
use log::{File, Table, whole};
use scene::{Scene, TABLES};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Rows and last block of a table, as delta-rs, Polars, DuckDB and chDB read it: from a checkpoint
/// and the versions after it.
const ENGINES: &str = r#"
import sys
import chdb, deltalake, duckdb, polars
from duckdb_extensions import import_extension
path = sys.argv[1]
rows = deltalake.DeltaTable(path).to_pyarrow_table()
print(rows.num_rows, max(rows["number"].to_pylist()))
rows = polars.scan_delta(path).collect()
print(rows.height, rows["number"].max())
import_extension("delta")
session = duckdb.connect()
session.execute("LOAD delta")
print(*session.execute(f"SELECT count(*), max(number) FROM delta_scan('{path}')").fetchone())
print(chdb.query(f"SELECT count() || ' ' || max(number) FROM deltaLakeLocal('{path}')", "TSVRaw"), end="")
"#;

/// One row of a query of DuckDB.
fn row<T: duckdb::types::FromSql>(sql: &str) -> T {
    let duckdb = duckdb::Connection::open_in_memory().unwrap();
    duckdb.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The files as DuckDB reads them.
fn scan(files: &[File]) -> String {
    let paths: Vec<_> = files.iter().map(|file| format!("'{}'", file.path.display())).collect();
    format!("read_parquet([{}])", paths.join(", "))
}

fn data_change(table: &Table, version: usize) -> Vec<bool> {
    let actions = ["remove", "add"].into_iter().flat_map(|kind| table.actions(version, kind));
    actions.map(|action| action["dataChange"].as_bool().unwrap()).collect()
}

#[test]
fn sealed_ranges_become_a_table_of_links() {
    let scene = Scene::with_ranges(3);
    scene.command().succeed();
    scene.check();
    let table = scene.table("blocks");
    assert_eq!(table.versions.len(), 1);
    assert!(table.versions[0][0].get("commitInfo").is_some(), "who commits is the first line");
    let features = json!({
        "minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"],
    });
    assert_eq!(table.actions(0, "protocol"), [&features]);
    let metadata = table.actions(0, "metaData")[0];
    assert_eq!(metadata["partitionColumns"], json!([]));
    let schema: serde_json::Value =
        serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    let column = |name: &str| {
        let fields = schema["fields"].as_array().unwrap();
        fields.iter().find(|field| field["name"] == name).unwrap().clone()
    };
    assert_eq!(column("number")["type"], "long");
    assert_eq!(column("timestamp")["type"], "timestamp_ntz");
    assert_eq!(column("difficulty")["type"], "decimal(38,0)");
    assert!(column("difficulty")["metadata"]["comment"].as_str().is_some_and(|it| !it.is_empty()));
    for (file, range) in table.newest().iter().zip(scene.store.ranges().unwrap()) {
        let sealed = scene.data().join(&range.path).join("blocks.parquet");
        assert_eq!(
            fs::metadata(&file.path).unwrap().ino(),
            fs::metadata(sealed).unwrap().ino(),
            "a link takes no space"
        );
    }
    // The combined table says that its rows are split.
    let flows = scene.table("address_flows");
    let description = flows.actions(0, "metaData")[0]["description"].as_str().unwrap().to_owned();
    assert!(description.contains("add up amounts"), "{description}");
    assert!(scene.table("uncles").newest().iter().all(|file| file.rows() == 0));
}

#[test]
fn statistics_are_those_of_the_rows() {
    let scene = Scene::with_ranges(2);
    scene.command().succeed();
    for (name, columns) in [
        ("blocks", &["number", "timestamp"][..]),
        ("address_flows", &["day", "first_block", "last_block"]),
    ] {
        for file in scene.table(name).newest() {
            let scan = scan(std::slice::from_ref(&file));
            assert_eq!(file.rows(), row::<u64>(&format!("SELECT count(*) FROM {scan}")));
            let found: Vec<_> = file.stats["minValues"].as_object().unwrap().keys().collect();
            let mut expected = columns.to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected);
            for column in columns {
                for (key, of) in [("minValues", "min"), ("maxValues", "max")] {
                    let text = match &file.stats[key][column] {
                        serde_json::Value::String(text) => {
                            text.replace('T', " ").replace(".000", "")
                        }
                        number => number.to_string(),
                    };
                    let sql = format!("SELECT {of}({column})::VARCHAR FROM {scan}");
                    assert_eq!(text, row::<String>(&sql), "{name}.{column}");
                }
                assert_eq!(file.stats["nullCount"][column], 0);
            }
        }
    }
}

#[test]
fn second_run_writes_nothing() {
    let scene = Scene::with_ranges(3);
    scene.command().succeed();
    let before = listing(&scene.lake());
    scene.command().succeed();
    assert_eq!(listing(&scene.lake()), before);
    assert_eq!(fs::read_dir(scene.lake().join(".tmp")).unwrap().count(), 0);
}

#[test]
fn merge_is_one_version_and_changes_only_combined_rows() {
    let scene = Scene::with_ranges(10);
    scene.command().succeed();
    let merged = scene.merge();
    assert_eq!((merged.first, merged.last), (0, 999));
    scene.command().succeed();
    scene.check();
    for (name, changes) in [("blocks", false), ("uncles", false), ("address_flows", true)] {
        let table = scene.table(name);
        assert_eq!(table.versions.len(), 2, "{name}");
        assert_eq!(table.actions(1, "remove").len(), 10);
        assert_eq!(table.actions(1, "add").len(), 1);
        assert_eq!(data_change(&table, 1), [changes; 11], "{name}");
    }
    // Both versions have the same blocks, and the same sums of flows.
    let flows = scene.table("address_flows").states();
    let sum = |files: &[File]| -> String {
        row(&format!("SELECT sum(amount_in)::VARCHAR FROM {}", scan(files)))
    };
    assert_eq!(sum(&flows[0]), "1000000");
    assert_eq!(sum(&flows[1]), "1000000");
    assert!(flows[1][0].rows() < flows[0].iter().map(File::rows).sum());
    // The sources are deleted from the volume, and version 0 is still there.
    scene.collect();
    scene.command().succeed();
    scene.check();
    assert_eq!(scene.table("blocks").versions.len(), 2);
}

#[test]
fn merge_of_what_the_lake_never_saw_counts_as_a_change() {
    let scene = Scene::with_ranges(10);
    scene.command().succeed();
    scene.seal(200, 299, 5);
    scene.merge();
    scene.command().succeed();
    scene.check();
    let table = scene.table("blocks");
    assert_eq!(data_change(&table, 1), [true; 11], "one of the sources was repaired");
    // Nor can it be told once the sources are gone.
    let scene = Scene::with_ranges(10);
    scene.command().succeed();
    scene.merge();
    scene.collect();
    scene.command().succeed();
    scene.check();
    assert_eq!(data_change(&scene.table("blocks"), 1), [true; 11]);
}

#[test]
fn repair_replaces_a_range_and_changes_rows() {
    let scene = Scene::with_ranges(3);
    scene.command().succeed();
    let repaired = scene.seal(100, 199, 5);
    assert_eq!(repaired.generation, 2);
    scene.command().succeed();
    scene.check();
    let table = scene.table("blocks");
    assert_eq!(data_change(&table, 1), [true, true]);
    assert_eq!(table.actions(1, "commitInfo")[0]["operation"], "REPLACE");
    // A table whose file is the same in both generations has no version of its own.
    assert_eq!(scene.table("uncles").versions.len(), 1);
}

#[test]
fn a_range_that_is_gone_is_removed_with_a_warning_and_may_come_back() {
    let scene = Scene::with_ranges(3);
    scene.command().succeed();
    let range = scene.store.ranges().unwrap()[2].clone();
    fs::remove_dir_all(scene.data().join(&range.path)).unwrap();
    let said = stderr_of(&scene.command().run());
    assert!(said.contains("WARN") && said.contains("are gone"), "{said}");
    let table = scene.table("blocks");
    assert_eq!(table.actions(1, "remove").len(), 1);
    let info = table.actions(1, "commitInfo")[0];
    assert_eq!(info["operation"], "DELETE");
    let reason = info["operationParameters"]["reason"].as_str().unwrap();
    assert!(reason.contains("200-299"), "{reason}");
    // The same bytes again: under another name, because the first may be deleted at any time.
    scene.seal(200, 299, 0);
    scene.command().succeed();
    let table = scene.table("blocks");
    let names = [0, 2].map(|version| table.actions(version, "add").pop().unwrap().clone());
    assert_eq!(names[0]["tags"], names[1]["tags"]);
    assert_ne!(names[0]["path"], names[1]["path"]);
    assert_eq!(table.newest().len(), 3);
}

#[test]
fn a_damaged_file_is_refused_and_the_lake_stays_as_it_was() {
    let scene = Scene::with_ranges(2);
    scene.command().succeed();
    let before = listing(&scene.lake());
    let range = scene.seal(200, 299, 0);
    let file = scene.data().join(&range.path).join("blocks.parquet");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let said = scene.command().fail(1);
    assert!(
        said.contains(range.path.to_str().unwrap()) && said.contains("blocks.parquet"),
        "{said}"
    );
    assert!(said.contains("hint: ") && said.contains("--repair"), "{said}");
    assert_eq!(listing(&scene.lake()), before);
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    scene.command().succeed();
    scene.check();
}

#[test]
fn wrong_targets_and_volumes_are_refused() {
    let scene = Scene::with_ranges(1);
    let own = scene.command().path("--to", &scene.data().join("chain")).fail(2);
    assert!(own.contains("directory of the volume itself"), "{own}");
    let empty = scene.beside("empty");
    fs::create_dir(&empty).unwrap();
    let nothing = Spyhop::new("lake").path("--data", &empty).fail(2);
    assert!(nothing.contains("has no data of spyhop") && nothing.contains("hint: "), "{nothing}");
    // A file that another program wrote, and a table that it changed.
    scene.command().succeed();
    let log = scene.lake().join("blocks/_delta_log");
    let version = |lines: &str| fs::write(log.join(format!("{:020}.json", 1)), lines).unwrap();
    version(
        r#"{"add":{"path":"part-0.parquet","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true}}"#,
    );
    let foreign = scene.command().fail(2);
    assert!(foreign.contains("did not write: `part-0.parquet`"), "{foreign}");
    version(
        r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#,
    );
    let changed = scene.command().fail(2);
    assert!(changed.contains("needs deletionVectors"), "{changed}");
}

#[test]
fn relative_directories_are_those_below_the_working_directory() {
    let scene = Scene::with_ranges(3);
    let above = scene.data().parent().unwrap();
    let name = Path::new(scene.data().file_name().unwrap());
    let command =
        |to: &Path| Spyhop::new("lake").path("--data", name).path("--to", to).current_dir(above);
    command(Path::new("elsewhere")).succeed();
    assert_eq!(whole(&above.join("elsewhere"), &TABLES), 3);
    command(&name.join("chain")).fail(2);
}

#[test]
fn on_another_file_system_files_are_copied() {
    let scene = Scene::with_ranges(10);
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        crate::rig::pass_without("/dev/shm");
        return;
    };
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(other.path()) == device(scene.data()) {
        crate::rig::pass_without("a second file system");
        return;
    }
    let command = || scene.command().path("--to", other.path());
    command().succeed();
    scene.merge();
    command().succeed();
    assert_eq!(whole(other.path(), &TABLES), 6);
    let files = Table::new(&other.path().join("blocks")).newest();
    let ranges = scene.store.ranges().unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(
        fs::read(&files[0].path).unwrap(),
        fs::read(scene.data().join(&ranges[0].path).join("blocks.parquet")).unwrap()
    );
    assert_eq!(fs::read_dir(other.path().join(".tmp")).unwrap().count(), 0);
}

#[test]
fn selected_tables_only() {
    let scene = Scene::with_ranges(1);
    scene.command().args(&["--tables", "blocks"]).succeed();
    assert!(scene.lake().join("blocks").exists() && !scene.lake().join("uncles").exists());
    scene.command().succeed();
    scene.check();
}

#[test]
fn only_what_was_removed_long_ago_is_unlinked() {
    let scene = Scene::with_ranges(10);
    scene.command().succeed();
    scene.merge();
    scene.command().succeed();
    let files = || {
        let names = fs::read_dir(scene.lake().join("blocks")).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    // Left by a kill between link and commit, just now.
    let orphan = scene.lake().join("blocks/0000001000-0000001099-g1-0123456789abcdef.parquet");
    fs::write(&orphan, "orphan").unwrap();
    scene.command().succeed();
    assert_eq!(files().len(), 10 + 1 + 1 + 1, "sources, merged, orphan and log are kept for days");
    scene.command().args(&["--retention", "1h"]).succeed();
    assert_eq!(files().len(), 13);
    std::thread::sleep(Duration::from_millis(5));
    scene.command().args(&["--retention", "0s"]).succeed();
    let newest = scene.table("blocks").newest();
    let merged = newest[0].path.file_name().unwrap().to_str().unwrap();
    let orphan = orphan.file_name().unwrap().to_str().unwrap();
    assert_eq!(files(), [merged, orphan, "_delta_log"], "an orphan is at least a day old");
    assert_eq!(newest.len(), 1);
}

#[test]
fn stale_temporary_files_are_cleared_at_start() {
    let scene = Scene::with_ranges(1);
    scene.command().succeed();
    let temporary = scene.lake().join(".tmp");
    let (old, new) = (temporary.join("1-2-3"), temporary.join("4-5-6"));
    for path in [&old, &new] {
        fs::write(path, "half").unwrap();
    }
    let hours_ago = SystemTime::now() - Duration::from_secs(2 * 3_600);
    fs::File::options().write(true).open(&old).unwrap().set_modified(hours_ago).unwrap();
    scene.command().succeed();
    assert!(!old.exists() && new.exists());
}

#[test]
fn a_checkpoint_every_hundred_versions_is_the_same_state() {
    let scene = Scene::new();
    let run = || scene.command().args(&["--tables", "blocks"]).succeed();
    for salt in 0..=101 {
        scene.seal(0, 99, salt);
        scene.collect();
        run();
    }
    let table = scene.table("blocks");
    assert_eq!(table.versions.len(), 102);
    let log = scene.lake().join("blocks/_delta_log");
    let last: serde_json::Value =
        serde_json::from_slice(&fs::read(log.join("_last_checkpoint")).unwrap()).unwrap();
    assert_eq!(last["version"], 100);
    let checkpoint = log.join(format!("{:020}.checkpoint.parquet", 100));
    let of = |column: &str, condition: &str| -> String {
        let sql = format!(
            "SELECT coalesce(string_agg({column}::VARCHAR, ',' ORDER BY {column}), '')
            FROM '{}' WHERE {condition}",
            checkpoint.display()
        );
        row(&sql)
    };
    let state = &table.states()[100];
    let paths: Vec<_> = state.iter().map(|file| file.add["path"].as_str().unwrap()).collect();
    assert_eq!(of("add.path", "add IS NOT NULL"), paths.join(","));
    assert_eq!(of("add.stats", "add IS NOT NULL"), state[0].add["stats"].as_str().unwrap());
    assert_eq!(row::<u64>(&format!("SELECT count(remove) FROM '{}'", checkpoint.display())), 100);
    assert_eq!(of("protocol.minReaderVersion", "protocol IS NOT NULL"), "3");
    let metadata = table.actions(0, "metaData")[0];
    assert_eq!(of("metaData.id", "metaData IS NOT NULL"), metadata["id"].as_str().unwrap());
    assert_eq!(last["size"], 103, "protocol, schema, a file, and the removed ones");
    // What it replaces is not needed to go on.
    for version in 0..=100 {
        fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    scene.seal(0, 99, 1_000);
    run();
    assert!(log.join(format!("{:020}.json", 102)).exists());
    if let Some(python) = std::env::var_os("SPYHOP_TEST_ENGINES") {
        let blocks = scene.lake().join("blocks");
        // chDB reads only what is below its working directory.
        let mut read = Command::new(python);
        read.args(["-c", ENGINES]).arg(&blocks).current_dir(&blocks);
        let output = read.output().unwrap();
        assert!(output.status.success(), "{}", stderr_of(&output));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "100 99\n".repeat(4));
    }
    let hole = log.join(format!("{:020}.json", 101));
    fs::remove_file(&hole).unwrap();
    let said = scene.command().args(&["--tables", "blocks"]).fail(1);
    assert!(said.contains(hole.file_name().unwrap().to_str().unwrap()), "{said}");
    assert!(said.contains("is missing") && said.contains("hint: "), "{said}");
}

#[test]
fn labels_and_coverage_are_those_published_as_far_as_the_lake_goes() {
    let directory = tempfile::Builder::new().prefix("lake").tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 350, "");
    fake.chain().finalized = Some(320);
    let data = directory.path().join("data");
    Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
    let lake = || Spyhop::new("lake").path("--data", &data);
    lake().args(&["--tables", "blocks,logs"]).succeed();
    let files = |name: &str| Table::new(&data.join("lake").join(name)).newest();
    let coverage = |select: &str, of: &str| -> String {
        row(&format!(
            "SELECT string_agg({select}, ' ' ORDER BY first_block)
            FROM {} WHERE table_name = '{of}'",
            scan(&files("coverage"))
        ))
    };
    let shown = "first_block || '-' || last_block || ':' || status";
    assert_eq!(coverage(shown, "blocks"), "0-299:held");
    assert_eq!(coverage(shown, "transactions"), "0-299:missing");
    assert!(coverage("reason", "transactions").contains("--tables"));
    let labels = Published::open(&data).number("SELECT count(*) FROM labels");
    assert!(labels > 0);
    assert_eq!(files("labels")[0].rows(), labels);
    // Nothing changes, then only coverage.
    lake().args(&["--tables", "blocks,logs"]).succeed();
    assert_eq!(Table::new(&data.join("lake/coverage")).versions.len(), 1);
    lake().succeed();
    assert_eq!(coverage(shown, "transactions"), "0-299:held");
    // What another command has put there is still there.
    lake().args(&["--tables", "logs"]).succeed();
    let table = Table::new(&data.join("lake/coverage"));
    assert_eq!((table.versions.len(), table.actions(1, "remove").len()), (2, 1));
    assert_eq!(Table::new(&data.join("lake/labels")).versions.len(), 1);
}

#[test]
fn a_lake_of_another_chain_is_refused() {
    let scene = Scene::with_ranges(1);
    scene.command().succeed();
    let directory = tempfile::Builder::new().prefix("lake").tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 120, "");
    fake.chain().finalized = Some(110);
    let data = directory.path().join("data");
    Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).succeed();
    let said = Spyhop::new("lake").path("--data", &data).path("--to", &scene.lake()).fail(2);
    assert!(said.contains("is of chain 1 (0x0707") && said.contains("a lake of its own"), "{said}");
    scene.check();
}
