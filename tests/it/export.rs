//! `spyhop export`: the files have the volume's rows, each once, whatever happens in between.

use crate::readers::versions;
use crate::rig::mixed::mixed_chain;
use crate::rig::process::{listing, stderr_of};
use crate::rig::random::Random;
use crate::rig::sealed::{Sealed, TABLES, tables};
use crate::rig::{Spyhop, pass_without};
use serde_json::Value;
use spyhop::rows::{Gap, Lacks, Selection};
use spyhop::store::read_ranges;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Reads the files with Python's own readers, and the volume's Parquet with DuckDB, and compares
/// every value. Prints the number of rows and the sum of all amounts of each table.
const COMPARE: &str = r#"
import csv, duckdb, glob, json, sys
volume, export, form, last = sys.argv[1:5]
db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
def text(kind, value):
    if value is None: return None
    if kind == "TIMESTAMP": return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if kind == "BIGINT": return value if form == "jsonl" and abs(value) < 2**53 else str(value)
    if kind == "VARCHAR[]": return value if form == "jsonl" else json.dumps(value, separators=(",", ":"))
    return str(value)
def files(table):
    found = sorted(glob.glob(f"{export}/{table}/*.{form}"))
    assert found, table
    return found
def exported(table, names):
    for file in files(table):
        if form == "csv":
            with open(file, newline="", encoding="utf-8") as lines:
                rows = csv.reader(lines)
                assert next(rows) == names, file
                yield from rows
        elif form == "jsonl":
            with open(file, newline="\n", encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    assert list(row) == names, row
                    yield list(row.values())
        else:
            yield from db.execute(f"FROM read_parquet('{file}')").fetchall()
for table in sys.argv[5:]:
    source = f"read_parquet('{volume}/chain/*/*/*/{table}.parquet', hive_partitioning = false)"
    first = min(glob.glob(f"{volume}/chain/*/*/*/{table}.parquet"))
    columns = [row[:2] for row in db.execute(f"DESCRIBE FROM read_parquet('{first}', hive_partitioning = false)").fetchall()]
    names = [name for name, _ in columns]
    quoted = ", ".join(f'"{name}"' for name in names)
    height = "number" if table == "blocks" else "block_number"
    order = next((f'{height}, "{name}"' for name in ("transaction_index", "log_index", "transfer_index", "withdrawal_index") if name in names), height)
    if table == "balances": order = f"{height}, asset, address"
    wanted = db.execute(f"SELECT {quoted} FROM {source} WHERE {height} <= {last} ORDER BY {order}").fetchall()
    if form != "parquet":
        wanted = [[text(kind, value) for (_, kind), value in zip(columns, row)] for row in wanted]
    if form == "csv":
        wanted = [["" if value is None else value for value in row] for row in wanted]
    found = [list(row) for row in exported(table, names)]
    wanted = [list(row) for row in wanted]
    at = names.index(height)
    heights = [int(row[at]) for row in found]
    if table != "balances":
        assert heights == sorted(heights), f"{table} is not in the order of blocks"
    key = lambda row: [(value is not None, str(value)) for value in row]
    found.sort(key=key), wanted.sort(key=key)
    assert len(found) == len(wanted), (table, len(found), len(wanted))
    for a, b in zip(found, wanted):
        assert a == b, (table, a, b)
    amounts = [names.index(name) for name in ("value", "amount", "balance", "burnt", "receipt_gas_used") if name in names]
    total = lambda rows: sum(int(row[at]) for row in rows for at in amounts if row[at] not in (None, ""))
    summed = "".join(f'+ coalesce(sum("{names[at]}"::VARCHAR::BIGNUM), 0::BIGNUM)' for at in amounts)
    by_sql = db.execute(f"SELECT (0::BIGNUM {summed})::VARCHAR, count(*) FROM {source} WHERE {height} <= {last}").fetchone()[0]
    assert str(total(found)) == by_sql, (table, total(found), by_sql)
    print(table, len(found), by_sql)
"#;

/// Compares an export with its volume, up to a block.
#[track_caller]
fn compare(volume: &Path, export: &Path, format: &str, last: u64) {
    let Some((_, python)) = versions().pop() else { return };
    let output = Command::new(python.join("python"))
        .args(["-c", COMPARE])
        .args([volume, export])
        .args([format, &last.to_string()])
        .args(TABLES)
        .output()
        .unwrap();
    assert!(output.status.success(), "{format}: {}", stderr_of(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().count(), TABLES.len(), "{printed}");
    assert!(printed.lines().all(|line| line.split(' ').count() == 3), "{printed}");
}

struct Scene {
    directory: TempDir,
    sealed: Sealed,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("spy").tempdir().unwrap();
        let sealed = Sealed::new(&directory.path().join("data"));
        Self { directory, sealed }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An export to a directory of this name.
    fn export(&self, to: &str, format: &str) -> Spyhop {
        export(&self.data(), &self.at(to), format)
    }

    /// The names of a table's files.
    fn files(&self, to: &str, table: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at(to).join(table)) else { return Vec::new() };
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }

    /// The coverage of a table in JSON lines, as `first-last status`.
    fn coverage(&self, to: &str, table: &str) -> Vec<String> {
        let text = fs::read_to_string(self.at(to).join("coverage.jsonl")).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let shown = |row: Value| {
            let status = row["status"].as_str().unwrap().to_owned();
            assert_eq!(status == "held", row["reason"].is_null(), "{row}");
            format!("{}-{} {status}", row["first_block"], row["last_block"])
        };
        rows.filter(|row| row["table_name"] == table).map(shown).collect()
    }
}

fn export(data: &Path, to: &Path, format: &str) -> Spyhop {
    Spyhop::new("export").path("--data", data).path("--to", to).args(&["--format", format])
}

/// Every file with its inode and time: what was not written again is the same.
fn inodes(directory: &Path) -> BTreeSet<(PathBuf, u64, i64)> {
    let files = listing(directory).into_iter().map(|(file, _)| file);
    let id = |file: PathBuf| {
        let found = fs::metadata(directory.join(&file)).unwrap();
        (file, found.ino(), found.mtime_nsec())
    };
    files.filter(|file| file.components().count() > 1).map(id).collect()
}

#[test]
fn every_format_has_the_rows_of_a_real_chain() {
    let geth = mixed_chain();
    let data = geth.data("data");
    Spyhop::watch(&geth.socket(), &data).args(&["--from", "0", "--once"]).succeed();
    for format in ["parquet", "csv", "jsonl"] {
        let to = geth.data("").join(format);
        export(&data, &to, format).args(&["--blocks-per-file", "100"]).succeed();
        compare(&data, &to, format, 99);
    }
}

#[test]
fn every_shape_of_a_value_is_read_back_by_other_readers() {
    let scene = Scene::new();
    scene.sealed.seal(0..1_000);
    for format in ["parquet", "csv", "jsonl"] {
        scene.export(format, format).args(&["--blocks-per-file", "300"]).succeed();
        // The last 100 blocks are a file that is not finished.
        compare(&scene.data(), &scene.at(format), format, 899);
        assert_eq!(scene.files(format, "blocks").len(), 3);
        let days = format!("{format}-days");
        scene.export(&days, format).args(&["--partition", "day", "--unfinished"]).succeed();
        compare(&scene.data(), &scene.at(&days), format, 999);
    }
}

#[test]
fn later_export_adds_what_is_new_however_ranges_have_merged() {
    let mut scene = Scene::new();
    scene.sealed.seal(0..900);
    let run = |scene: &Scene| {
        scene.export("to", "jsonl").args(&["--blocks-per-file", "200"]).succeed();
        inodes(&scene.at("to"))
    };
    let first = run(&scene);
    assert_eq!(scene.files("to", "logs").len(), 4);
    assert_eq!(run(&scene), first, "nothing is new");
    scene.sealed.seal(900..1_300);
    scene.sealed.merge();
    assert_eq!(read_ranges(&scene.data()).unwrap().len(), 4, "the first thousand is merged");
    let second = run(&scene);
    assert!(second.is_superset(&first), "a finished file was written again");
    assert_eq!(scene.files("to", "logs").len(), 6);
    compare(&scene.data(), &scene.at("to"), "jsonl", 1_199);
    // A file that somebody removed, or cut, is written again, and only that one.
    let file = scene.at("to").join("logs/0000000200-0000000399.jsonl");
    let before = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let cut = scene.at("to").join("blocks/0000000000-0000000199.jsonl");
    fs::File::options().write(true).open(&cut).unwrap().set_len(7).unwrap();
    let third = run(&scene);
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(third.difference(&second).count(), 2);
    // Another branch from block 150 on.
    for range in read_ranges(&scene.data()).unwrap() {
        fs::remove_dir_all(scene.data().join(range.path)).unwrap();
    }
    scene.sealed.fork();
    scene.sealed.seal(0..1_000);
    let log = scene.export("to", "jsonl").args(&["--blocks-per-file", "200"]).run();
    assert!(stderr_of(&log).contains("blocks were replaced"), "{}", stderr_of(&log));
    compare(&scene.data(), &scene.at("to"), "jsonl", 999);
}

#[test]
fn parquet_of_a_whole_range_is_a_copy_of_it() {
    let scene = Scene::new();
    scene.sealed.seal(0..200);
    scene.export("to", "parquet").args(&["--blocks-per-file", "100"]).succeed();
    for range in read_ranges(&scene.data()).unwrap() {
        let theirs = scene.data().join(&range.path).join("transactions.parquet");
        let name = format!("{:010}-{:010}.parquet", range.first, range.last);
        let ours = scene.at("to").join("transactions").join(name);
        assert_eq!(fs::read(&ours).unwrap(), fs::read(&theirs).unwrap());
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_ne!(inode(&ours), inode(&theirs), "who changes the copy must not change the volume");
    }
    compare(&scene.data(), &scene.at("to"), "parquet", 199);
}

#[test]
fn day_is_written_once_it_is_complete() {
    let scene = Scene::new();
    scene.sealed.seal(0..300);
    let run = |arguments: &[&str]| {
        scene.export("to", "csv").args(&["--partition", "day"]).args(arguments).succeed();
        scene.files("to", "transactions")
    };
    // Blocks 0 to 49, 50 to 149, 150 to 249, and the first 50 of a day.
    let days = ["2025-06-15.csv", "2025-06-16.csv", "2025-06-17.csv", "2025-06-18.csv"];
    assert_eq!(run(&[]), days[..3]);
    assert_eq!(run(&["--unfinished"]), days);
    let rows = |day: &str| {
        let text = fs::read_to_string(scene.at("to").join("blocks").join(day)).unwrap();
        text.matches("\n0x").count().max(text.lines().count())
    };
    let part = rows(days[3]);
    let before = inodes(&scene.at("to"));
    scene.sealed.seal(300..500);
    assert_eq!(run(&[])[..4], days);
    assert!(rows(days[3]) > part, "the last day is replaced by a complete one");
    let again: Vec<_> = before.difference(&inodes(&scene.at("to"))).cloned().collect();
    assert!(again.iter().all(|(file, ..)| file.ends_with(days[3])), "{again:?}");
    compare(&scene.data(), &scene.at("to"), "csv", 449);
}

#[test]
fn day_whose_first_blocks_come_later_is_one_file_and_counted_once() {
    let scene = Scene::new();
    let run = || {
        scene.export("to", "jsonl").args(&["--partition", "day", "--unfinished"]).succeed();
        scene.coverage("to", "blocks")
    };
    // Blocks 50 to 149 are of one day.
    scene.sealed.seal(100..300);
    assert_eq!(run(), ["100-299 held"]);
    scene.sealed.seal(0..100);
    assert_eq!(run(), ["0-299 held"]);
    compare(&scene.data(), &scene.at("to"), "jsonl", 299);
}

#[test]
fn kill_at_any_instant_leaves_whole_files_and_the_next_run_finishes() {
    let mut scene = Scene::new();
    scene.sealed.transactions = 20;
    scene.sealed.seal(0..1_000);
    let run = |to: &str| scene.export(to, "jsonl").args(&["--blocks-per-file", "100"]);
    let started = std::time::Instant::now();
    run("undisturbed").succeed();
    let whole_ms = started.elapsed().as_millis() as u64;
    let wanted: BTreeSet<_> = rows_of(&scene.at("undisturbed")).into_iter().collect();
    let mut random = Random::new("export_kills");
    let (mut kills, mut inside) = (0, 0);
    while kills < 30 {
        let mut running = run("killed").spawn();
        std::thread::sleep(Duration::from_millis(random.within(1..=whole_ms)));
        let was_running = running.is_running();
        running.kill();
        kills += 1;
        let found = rows_of(&scene.at("killed"));
        let half: Vec<_> = found.iter().filter(|file| !wanted.contains(*file)).collect();
        assert!(half.is_empty(), "after kill {kills}: {half:?}");
        inside += u32::from(was_running && found.len() < wanted.len());
        if found.len() == wanted.len() {
            fs::remove_dir_all(scene.at("killed")).unwrap();
        }
    }
    assert!(inside >= 10, "only {inside} of {kills} kills came while files were written");
    run("killed").succeed();
    assert_eq!(rows_of(&scene.at("killed")).into_iter().collect::<BTreeSet<_>>(), wanted);
    let same = |name: &str| {
        let read = |to: &str| fs::read(scene.at(to).join(name)).unwrap();
        assert_eq!(read("killed"), read("undisturbed"), "{name}");
    };
    same("coverage.jsonl");
    same("export.json");
    compare(&scene.data(), &scene.at("killed"), "jsonl", 999);
}

/// The files with rows, with a hash of each.
fn rows_of(directory: &Path) -> Vec<(PathBuf, String)> {
    if !directory.exists() {
        return Vec::new();
    }
    let is_final = |(file, _): &(PathBuf, String)| {
        file.components().count() > 1 && !file.starts_with(".unfinished")
    };
    listing(directory).into_iter().filter(is_final).collect()
}

#[test]
fn range_that_is_merged_away_meanwhile_is_read_from_its_successor() {
    let mut scene = Scene::new();
    scene.sealed.transactions = 30;
    scene.sealed.seal(0..1_000);
    let mut running = scene.export("to", "jsonl").args(&["--blocks-per-file", "100"]).spawn();
    running.wait_for(&["written"]);
    scene.sealed.merge();
    assert!(running.wait().success(), "{}", running.log());
    compare(&scene.data(), &scene.at("to"), "jsonl", 999);
}

#[test]
fn missing_rows_are_refused_or_named_and_come_later() {
    let scene = Scene::new();
    let gap = |table: &str, first, last, lacks| Gap {
        table: table.to_owned(),
        first,
        last,
        reason: "the state is gone".to_owned(),
        lacks,
    };
    let without = Selection::parse(["blocks", "logs"]).unwrap();
    scene.sealed.seal_with(0..100, without, &[]);
    let gaps = [
        gap("balances", 120, 129, Lacks::Rows),
        gap("native_transfers", 150, 150, Lacks::Movements),
    ];
    scene.sealed.seal_with(100..200, tables(), &gaps);
    let run = |arguments: &[&str]| {
        scene.export("to", "jsonl").args(&["--blocks-per-file", "100"]).args(arguments)
    };
    let check_refused = |arguments: &[&str], words: &[&str]| {
        let complaint = run(arguments).fail(2);
        assert!(words.iter().all(|words| complaint.contains(words)), "{words:?} in {complaint}");
        assert!(complaint.contains("hint: "), "{complaint}");
    };
    check_refused(
        &["--from", "0", "--until", "99"],
        &["transactions, withdrawals", "0 to 99 (the table is not stored", "--allow-gaps"],
    );
    check_refused(&["--from", "100"], &["balances 120 to 129 (the state is gone)"]);
    assert!(scene.files("to", "blocks").is_empty());
    run(&["--from", "0", "--tables", "blocks,logs"]).succeed();
    let log = run(&[]).run();
    assert!(log.status.success());
    assert!(stderr_of(&log).contains("balances, gas_blocks 0 to 99"), "{}", stderr_of(&log));
    assert_eq!(scene.coverage("to", "blocks"), ["0-199 held"]);
    assert_eq!(scene.coverage("to", "transactions"), ["0-99 missing", "100-199 held"]);
    assert_eq!(
        scene.coverage("to", "balances"),
        ["0-99 missing", "100-119 held", "120-129 missing", "130-199 held"]
    );
    assert_eq!(scene.coverage("to", "native_transfers")[2..], ["150-150 partial", "151-199 held"]);
    assert_eq!(scene.files("to", "transactions").len(), 1);
    // A repair adds what was missing: the files that lacked it are written again, no other.
    let before = inodes(&scene.at("to"));
    for range in read_ranges(&scene.data()).unwrap() {
        fs::remove_dir_all(scene.data().join(range.path)).unwrap();
    }
    scene.sealed.seal(0..200);
    run(&["--from", "0", "--until", "199"]).succeed();
    assert_eq!(scene.coverage("to", "balances"), ["0-199 held"]);
    let gone: Vec<_> = before.difference(&inodes(&scene.at("to"))).cloned().collect();
    let tables: Vec<_> = gone.iter().map(|(file, ..)| file.iter().next().unwrap()).collect();
    assert_eq!(tables, ["balances", "native_transfers"]);
    compare(&scene.data(), &scene.at("to"), "jsonl", 199);
}

#[test]
fn files_that_are_not_complete_wait_and_are_named() {
    let scene = Scene::new();
    scene.sealed.seal(100..300);
    let run = |arguments: &[&str]| {
        scene.export("to", "jsonl").args(&["--blocks-per-file", "200"]).args(arguments)
    };
    run(&[]).succeed();
    assert!(scene.files("to", "blocks").is_empty());
    assert_eq!(scene.coverage("to", "blocks"), ["100-299 missing"]);
    let complaint = run(&["--from", "250"]).fail(2);
    assert!(complaint.contains("`0000000200-0000000399`"), "{complaint}");
    assert!(complaint.contains("--unfinished"), "{complaint}");
    run(&["--unfinished"]).succeed();
    assert_eq!(scene.coverage("to", "blocks")[1], "100-299 held");
    compare(&scene.data(), &scene.at("to"), "jsonl", 299);
}

#[test]
fn wrong_request_is_refused_with_its_reason_and_remedy() {
    let scene = Scene::new();
    scene.sealed.seal(0..100);
    let data = scene.data();
    let check_at = |to: &Path, arguments: &[&str], words: &str| {
        let run = export(&data, to, "csv").args(&["--blocks-per-file", "100"]).args(arguments);
        let complaint = run.fail(2);
        assert!(complaint.contains(words), "{words:?} in {complaint}");
        assert!(!complaint.contains("panicked"), "{complaint}");
    };
    let check = |arguments: &[&str], words: &str| check_at(&scene.at("to"), arguments, words);
    check(&["--from", "7", "--until", "3"], "--from 7 is above --until 3");
    check(&["--until", "100"], "block 100 is not sealed yet: the last is 99");
    check(&["--from", "5000"], "block 5000 is not sealed yet");
    check(&["--from", "-1"], "unexpected argument");
    check(&["--tables", "transaction"], "did you mean `transactions`?");
    check(&["--tables", "address_flows"], "change as the chain grows");
    check(&["--tables", "traces"], "the volume has no table `traces`");
    let complaint = scene.export("to", "csv").args(&["--blocks-per-file", "150"]).fail(2);
    assert!(complaint.contains("expected a multiple of 100"), "{complaint}");
    for own in ["", "chain", "chain/first=0000000000", "tail/x", ".spyhop", "quarantine"] {
        check_at(&data.join(own), &[], "is the data directory's own");
    }
    std::os::unix::fs::symlink(data.join("chain"), scene.at("link")).unwrap();
    check_at(&scene.at("link/x"), &[], "is the data directory's own");
    fs::create_dir(scene.at("full")).unwrap();
    fs::write(scene.at("full/precious"), "x").unwrap();
    check_at(&scene.at("full"), &[], "has other files, such as `precious`");
    check(&["--to", "x"], "cannot be used multiple times");
}

#[test]
fn directory_of_another_export_is_refused() {
    let scene = Scene::new();
    scene.sealed.seal(0..100);
    scene.export("to", "csv").args(&["--blocks-per-file", "100"]).succeed();
    let check = |format: &str, arguments: &[&str], words: &str| {
        let complaint = scene.export("to", format).args(arguments).fail(2);
        assert!(complaint.contains(words), "{words:?} in {complaint}");
        assert!(complaint.contains("hint: use another directory"), "{complaint}");
    };
    check("jsonl", &["--blocks-per-file", "100"], "in another format");
    check("csv", &[], "with other blocks in a file");
    check("csv", &["--partition", "day"], "with other blocks in a file");
    let path = scene.at("to/export.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"chain_id\": 1", "\"chain_id\": 2", 1)).unwrap();
    let changed = fs::read_to_string(&path).unwrap() != text;
    assert!(changed, "no chain id in {text}");
    check("csv", &["--blocks-per-file", "100"], "of another chain");
}

#[test]
fn second_export_into_a_directory_waits_for_its_turn() {
    let mut scene = Scene::new();
    scene.sealed.transactions = 30;
    scene.sealed.seal(0..1_000);
    let run = || scene.export("to", "jsonl").args(&["--blocks-per-file", "100"]);
    let mut first = run().spawn();
    first.wait_for(&["files to write"]);
    let complaint = run().fail(2);
    assert!(complaint.contains("another export is writing"), "{complaint}");
    assert!(first.wait().success());
    run().succeed();
}

#[test]
fn damaged_file_is_never_exported() {
    let scene = Scene::new();
    scene.sealed.seal(0..200);
    let range = &read_ranges(&scene.data()).unwrap()[1];
    let path = scene.data().join(&range.path).join("logs.parquet");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    for format in ["parquet", "csv"] {
        let complaint = scene.export(format, format).args(&["--blocks-per-file", "100"]).fail(1);
        assert!(complaint.contains("logs.parquet: BLAKE3"), "{complaint}");
        assert_eq!(scene.files(format, "logs").len(), 1, "the file of the sound range");
    }
}

#[test]
fn full_disk_leaves_no_half_file_and_is_survived() {
    let mut scene = Scene::new();
    scene.sealed.transactions = 20;
    scene.sealed.seal(0..1_000);
    let disk = scene.at("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let arguments = ["-t", "tmpfs", "-o", options, "tmpfs"];
        Command::new("mount").args(arguments).arg(&disk).stderr(Stdio::null()).status().unwrap()
    };
    if !mount("size=1m").success() {
        pass_without("permission to mount");
        return;
    }
    let unmount = || Command::new("umount").arg("--lazy").arg(&disk).status();
    let run = || export(&scene.data(), &disk, "jsonl").args(&["--blocks-per-file", "500"]);
    let complaint = run().fail(1);
    let unfinished = fs::read_dir(disk.join(".unfinished")).map(Iterator::count);
    assert!(complaint.contains("No space left on device"), "{complaint}");
    assert!(complaint.contains("hint: free some space and start it again"), "{complaint}");
    assert_eq!(unfinished.unwrap(), 0, "a temporary file is left");
    assert!(mount("remount,size=200m").success());
    run().succeed();
    compare(&scene.data(), &disk, "jsonl", 999);
    unmount().unwrap();
}

#[test]
fn read_only_target_is_refused_by_name() {
    let scene = Scene::new();
    scene.sealed.seal(0..100);
    let complaint = export(&scene.data(), Path::new("/proc/export"), "csv").fail(1);
    assert!(complaint.contains("failed to create directory: `/proc/export`"), "{complaint}");
}

#[test]
fn signal_ends_it_between_two_batches() {
    let mut scene = Scene::new();
    scene.sealed.transactions = 30;
    scene.sealed.seal(0..1_000);
    let mut running = scene.export("to", "jsonl").args(&["--blocks-per-file", "1000"]).spawn();
    running.wait_for(&["files to write"]);
    running.stop();
    assert_eq!(fs::read_dir(scene.at("to/.unfinished")).unwrap().count(), 0);
    scene.export("to", "jsonl").args(&["--blocks-per-file", "1000"]).succeed();
    compare(&scene.data(), &scene.at("to"), "jsonl", 999);
}
