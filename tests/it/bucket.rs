//! `spyhop lake --to s3://…` against a real S3 server: the lake in the bucket is the one on disk,
//! whatever happens on the way.

use crate::lake::log::{Table, whole};
use crate::rig::gateway::Gateway;
use crate::rig::process::{listing, stderr_of};
use crate::rig::random::Random;
use crate::rig::sealed::{Sealed, TABLES};
use crate::rig::{Spyhop, pass_without, wait_for};
use spyhop::store::read_ranges;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Blocks, length, rows and BLAKE3 of a data file.
type Key = (u64, u64, u64, u64, String);

struct Scene {
    gateway: Gateway,
    directory: TempDir,
    sealed: Sealed,
}

impl Scene {
    /// `None`, with a message, without an S3 server.
    fn new() -> Option<Self> {
        let gateway = Gateway::start()?;
        let directory = tempfile::Builder::new().prefix("spy").tempdir().unwrap();
        let sealed = Sealed::new(&directory.path().join("data"));
        Some(Self { gateway, directory, sealed })
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// `spyhop lake` to the bucket.
    fn lake(&self) -> Spyhop {
        self.gateway.lake(&self.data(), "main/lake")
    }

    /// The lake in the bucket, as the server stores it.
    fn remote(&self) -> PathBuf {
        self.gateway.bucket().join("main/lake")
    }

    /// What the newest version of each table holds.
    fn newest(lake: &Path) -> BTreeMap<&'static str, Vec<Key>> {
        let keys = |name: &&'static str| {
            let files = Table::new(&lake.join(name)).newest();
            (*name, files.iter().map(|file| file.key()).collect())
        };
        TABLES.iter().map(keys).collect()
    }

    /// Requires that the lake in the bucket is one of a directory, byte by byte.
    #[track_caller]
    fn check(&self) {
        let local = self.directory.path().join("local");
        let _ = fs::remove_dir_all(&local);
        Spyhop::new("lake").path("--data", &self.data()).path("--to", &local).succeed();
        assert_eq!(Self::newest(&self.remote()), Self::newest(&local));
        whole(&self.remote(), &TABLES);
        for name in TABLES {
            for file in Table::new(&self.remote().join(name)).newest() {
                let hash = blake3_of(&file.path);
                assert_eq!(file.add["tags"]["blake3"], hash, "{}", file.path.display());
            }
        }
    }
}

fn blake3_of(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path).unwrap()).unwrap();
    hasher.finalize().to_string()
}

/// Every object with its inode and time: one that was uploaded again has others.
fn inodes(bucket: &Path) -> BTreeSet<(PathBuf, u64, i64, i64)> {
    let id = |(file, _): (PathBuf, String)| {
        let found = fs::metadata(bucket.join(&file)).unwrap();
        (file, found.ino(), found.mtime(), found.mtime_nsec())
    };
    listing(bucket).into_iter().map(id).collect()
}

/// The parts of uploads that are not finished.
fn parts(bucket: &Path) -> Vec<PathBuf> {
    let temporary = bucket.join(".sgwtmp");
    let found = if temporary.exists() { listing(&temporary) } else { Vec::new() };
    found.into_iter().map(|(file, _)| file).filter(|file| file.starts_with("multipart")).collect()
}

/// The notes of uploads that are not finished.
fn notes(lake: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(lake.join(".tmp"));
    entries.map_or(Vec::new(), |entries| entries.map(|entry| entry.unwrap().path()).collect())
}

#[test]
fn lake_in_a_bucket_is_the_one_on_disk() {
    let Some(scene) = Scene::new() else { return };
    scene.sealed.seal(0..500);
    scene.lake().succeed();
    scene.check();
    let before = inodes(&scene.remote());
    scene.lake().succeed();
    assert_eq!(inodes(&scene.remote()), before, "the second run uploads nothing");
    // Ten ranges become one, and nine more come.
    scene.sealed.seal(500..1_900);
    scene.sealed.merge();
    scene.lake().succeed();
    scene.check();
    assert!(inodes(&scene.remote()).is_superset(&before), "an object was uploaded again");
    assert_eq!(Table::new(&scene.remote().join("blocks")).versions.len(), 2);
    // What was merged is deleted after the retention.
    let files = || {
        let entries = fs::read_dir(scene.remote().join("logs")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some()).count()
    };
    let kept = files();
    scene.lake().args(&["--retention", "0s"]).succeed();
    assert_eq!((kept, files()), (15, 10));
    assert!(notes(&scene.remote()).is_empty(), "{:?}", notes(&scene.remote()));
}

#[test]
fn large_file_is_uploaded_in_parts() {
    let Some(mut scene) = Scene::new() else { return };
    scene.sealed.transactions = 1_500;
    scene.sealed.seal(0..200);
    let bytes = read_ranges(&scene.data()).unwrap()[1].manifest.tables["transactions"].bytes;
    assert!(bytes > 16 << 20, "the file must have several parts, and has {bytes} bytes");
    scene.lake().succeed();
    scene.check();
    assert_eq!(parts(&scene.gateway.bucket()), Vec::<PathBuf>::new());
    assert_eq!(notes(&scene.remote()), Vec::<PathBuf>::new());
}

#[test]
fn two_writers_at_once_commit_each_version_once() {
    let Some(scene) = Scene::new() else { return };
    for round in 0..8 {
        scene.sealed.seal(round * 300..round * 300 + 300);
        let mut writers: Vec<_> = (0..3).map(|_| scene.lake().spawn()).collect();
        for writer in &mut writers {
            assert!(writer.wait().success(), "{}", writer.log());
        }
        let versions = Table::new(&scene.remote().join("blocks")).versions.len();
        assert_eq!(versions as u64, round + 1, "one version for each round");
    }
    scene.check();
}

#[test]
fn killed_anywhere_it_goes_on() {
    let Some(mut scene) = Scene::new() else { return };
    scene.sealed.transactions = 1_000;
    scene.sealed.seal(0..300);
    let started = std::time::Instant::now();
    scene.gateway.lake(&scene.data(), "undisturbed").succeed();
    let whole_ms = started.elapsed().as_millis() as u64;
    let mut random = Random::new("bucket_kills");
    let (mut kills, mut inside) = (0, 0);
    while inside < 15 {
        kills += 1;
        assert!(kills <= 150, "only {inside} of {kills} kills came in time");
        let mut running = scene.lake().spawn();
        std::thread::sleep(Duration::from_millis(random.within(1..=whole_ms)));
        let was_running = running.is_running();
        running.kill();
        // Every version that was committed is whole.
        whole(&scene.remote(), &TABLES);
        inside += u32::from(was_running && scene.remote().exists());
        if !was_running {
            fs::remove_dir_all(scene.remote()).unwrap();
        }
    }
    scene.lake().succeed();
    scene.check();
    let undisturbed = Scene::newest(&scene.gateway.bucket().join("undisturbed"));
    assert_eq!(Scene::newest(&scene.remote()), undisturbed);
}

#[test]
fn upload_that_a_killed_process_left_is_aborted_a_day_later() {
    let Some(mut scene) = Scene::new() else { return };
    scene.sealed.transactions = 1_500;
    scene.sealed.seal(0..100);
    let bucket = scene.gateway.bucket();
    let mut running = scene.lake().spawn();
    wait_for("the first part", || (!parts(&bucket).is_empty()).then_some(()));
    running.kill();
    assert!(!parts(&bucket).is_empty(), "the upload was over before the kill");
    let left = notes(&scene.remote());
    assert!(!left.is_empty());
    // It may still run on another machine.
    scene.lake().succeed();
    assert!(left.iter().all(|note| note.exists()), "a note is kept for a day");
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 3_600);
    for note in left {
        fs::File::open(note).unwrap().set_modified(yesterday).unwrap();
    }
    let log = stderr_of(&scene.lake().run());
    assert!(log.contains("aborted an upload that was left unfinished"), "{log}");
    assert_eq!(parts(&bucket), Vec::<PathBuf>::new());
    assert_eq!(notes(&scene.remote()), Vec::<PathBuf>::new());
    scene.check();
}

#[test]
fn signal_during_an_upload_ends_it_and_aborts_it() {
    let Some(mut scene) = Scene::new() else { return };
    scene.sealed.transactions = 1_500;
    scene.sealed.seal(0..100);
    let bucket = scene.gateway.bucket();
    let mut running = scene.lake().spawn();
    wait_for("the first part", || (!parts(&bucket).is_empty()).then_some(()));
    assert!(running.stop() < Duration::from_secs(5));
    // A part that was on its way may have arrived after the abort: the next run aborts it again.
    scene.lake().succeed();
    assert_eq!(parts(&bucket), Vec::<PathBuf>::new());
    assert_eq!(notes(&scene.remote()), Vec::<PathBuf>::new());
    scene.check();
}

#[test]
fn what_is_wrong_is_said_with_its_remedy() {
    let Some(scene) = Scene::new() else { return };
    scene.sealed.seal(0..100);
    let (data, url) = (scene.data(), scene.gateway.url());
    let check = |command: Spyhop, words: &str, hint: &str| {
        let complaint = command.fail(2);
        assert!(complaint.contains(words), "{words:?} in {complaint}");
        let found = complaint.lines().find_map(|line| line.strip_prefix("hint: "));
        assert!(found.is_some_and(|found| found.contains(hint)), "{hint:?} in {complaint}");
        assert!(
            !complaint.contains(Gateway::SECRET) && !complaint.contains("<?xml"),
            "{complaint}"
        );
    };
    let with = |name: &str, value: &str| scene.lake().env(name, value);
    check(with("AWS_SECRET_ACCESS_KEY", "wrong"), "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY");
    check(with("AWS_ACCESS_KEY_ID", "nobody"), "credentials are not accepted", "AWS_ACCESS_KEY_ID");
    check(with("AWS_SECRET_ACCESS_KEY", ""), "AWS_SECRET_ACCESS_KEY is not", "set both");
    check(with("AWS_ENDPOINT_URL", "127.0.0.1:1"), "is no address", "https://");
    check(with("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), "no connection", "AWS_ENDPOINT_URL");
    check(with("AWS_ENDPOINT_URL", &url.replace("http:", "https:")), "no connection", "network");
    check(with("AWS_ENDPOINT_URL", "http://nowhere.invalid"), "no connection", "network");
    check(with("AWS_PROFILE", "none"), "no profile `none`", "AWS_PROFILE");
    let elsewhere = |to: &str| {
        scene
            .gateway
            .anonymous(&data, to)
            .env("AWS_ENDPOINT_URL", &url)
            .env("AWS_ACCESS_KEY_ID", Gateway::KEY)
            .env("AWS_SECRET_ACCESS_KEY", Gateway::SECRET)
    };
    check(elsewhere("s3://nothing/lake"), "there is no such bucket", "create it");
    check(elsewhere("s3:///lake"), "names no bucket", "s3://BUCKET/PREFIX");
    check(elsewhere("gs://whales/lake"), "is not in a bucket", "s3://BUCKET/PREFIX");
    check(elsewhere("s3://whales/a//b"), "cannot be used", "s3://BUCKET/PREFIX");
    assert_eq!(listing(&scene.gateway.bucket()), [], "nothing was written");
}

#[test]
fn system_without_certificates_can_use_a_plain_endpoint_only() {
    let Some(scene) = Scene::new() else { return };
    scene.sealed.seal(0..100);
    let (file, directory) = (scene.directory.path().join("empty.pem"), scene.gateway.home());
    fs::write(&file, "").unwrap();
    let without = |command: Spyhop| {
        let command = command.env("SSL_CERT_FILE", file.to_str().unwrap());
        command.env("SSL_CERT_DIR", directory.to_str().unwrap())
    };
    without(scene.lake()).succeed();
    scene.check();
    let url = scene.gateway.url().replace("http:", "https:");
    let complaint = without(scene.lake()).env("AWS_ENDPOINT_URL", &url).fail(2);
    assert!(complaint.contains("has no certificates"), "{complaint}");
    assert!(complaint.contains("hint: install the package ca-certificates"), "{complaint}");
}

#[test]
fn keys_and_endpoint_come_from_a_profile_too() {
    let Some(scene) = Scene::new() else { return };
    scene.sealed.seal(0..100);
    let aws = scene.gateway.home().join(".aws");
    fs::create_dir(&aws).unwrap();
    let keys = format!(
        "[whales]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        Gateway::KEY,
        Gateway::SECRET
    );
    fs::write(aws.join("credentials"), keys).unwrap();
    let config = format!("[profile whales]\nendpoint_url = {}\n", scene.gateway.url());
    fs::write(aws.join("config"), format!("{config}[profile sso]\nsso_session = x\n")).unwrap();
    let run = |profile: &str| {
        let command = scene.gateway.anonymous(&scene.data(), "s3://whales/main/lake");
        command.env("AWS_PROFILE", profile)
    };
    run("whales").succeed();
    scene.check();
    let complaint = run("sso").fail(2);
    assert!(complaint.contains("`sso_session`, which is not read"), "{complaint}");
    assert!(complaint.contains("export-credentials --profile sso"), "{complaint}");
}

/// An endpoint that answers each request with this status, and counts them.
fn endpoint(status: &'static str) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Some(request) = read_request(&stream) else { continue };
            let body = "<Error><Code>NotImplemented</Code></Error>";
            let reply = format!(
                "HTTP/1.1 {status}\r\nETag: \"x\"\r\nConnection: close\r\nContent-Length: {}\r\n\
                \r\n{body}",
                body.len()
            );
            let _ = (&stream).write_all(reply.as_bytes());
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (url, requests)
}

/// A request with its body.
fn read_request(mut stream: &TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        let mut more = [0; 4_096];
        match stream.read(&mut more) {
            Ok(count) if count > 0 => bytes.extend(&more[..count]),
            _ => return None,
        }
    }
}

#[test]
fn endpoint_without_conditional_puts_is_refused() {
    let Some(scene) = Scene::new() else { return };
    scene.sealed.seal(0..100);
    for status in ["200 OK", "501 Not Implemented"] {
        let (url, requests) = endpoint(status);
        let complaint = scene.lake().env("AWS_ENDPOINT_URL", &url).fail(2);
        assert!(complaint.contains("ignores conditional puts"), "{complaint}");
        assert!(complaint.contains("hint: use S3 itself"), "{complaint}");
        let requests: Vec<_> = requests.try_iter().collect();
        let puts = requests.iter().filter(|request| request.starts_with("put "));
        assert!(puts.clone().all(|request| request.contains("if-none-match: *")), "{requests:?}");
        assert!(puts.count() >= 1 && requests.iter().all(|it| !it.contains("_delta_log")));
    }
}

/// Reads the tables in the bucket with delta-rs, Polars and DuckDB, and those of the volume with
/// DuckDB, and prints what each says.
const READ: &str = r#"
import pathlib, sys, duckdb, duckdb_extension_delta, duckdb_extension_httpfs, polars, deltalake
volume, place, endpoint, key, secret = sys.argv[1:6]
options = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret,
    "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
db = duckdb.connect()
db.execute("SET extension_directory = '/nowhere'")
for name, package in [("httpfs", duckdb_extension_httpfs), ("delta", duckdb_extension_delta)]:
    file = next(pathlib.Path(package.__file__).parent.rglob(f"{name}.duckdb_extension"))
    db.execute(f"LOAD '{file}'")
host = endpoint.removeprefix("http://")
db.execute(f"""CREATE SECRET (TYPE s3, KEY_ID '{key}', SECRET '{secret}', ENDPOINT '{host}',
    URL_STYLE 'path', USE_SSL false, REGION 'us-east-1')""")
for table, value in [("blocks", "number"), ("transactions", "value"), ("logs", "log_index"), ("balances", "balance")]:
    total = lambda values: (len(values), str(sum(int(it) for it in values if it is not None)))
    ask = lambda source: total([row[0] for row in db.execute(f"SELECT {value} FROM {source}").fetchall()])
    said = {"volume": ask(f"read_parquet('{volume}/chain/*/*/*/{table}.parquet', hive_partitioning = false)")}
    said["duckdb"] = ask(f"delta_scan('{place}/{table}')")
    rows = deltalake.DeltaTable(f"{place}/{table}", storage_options=options).to_pyarrow_table(columns=[value])
    said["delta-rs"] = total(rows.column(value).to_pylist())
    frame = polars.scan_delta(f"{place}/{table}", storage_options=options).select(value).collect()
    said["polars"] = total(frame[value].to_list())
    assert len(set(said.values())) == 1, (table, said)
    print(table, *said["volume"])
"#;

#[test]
fn engines_read_the_bucket_and_give_the_digits_of_the_volume() {
    let Some(scene) = Scene::new() else { return };
    let Some(python) = std::env::var_os("SPYHOP_TEST_ENGINES") else {
        pass_without("delta-rs, Polars and DuckDB on a bucket, for SPYHOP_TEST_ENGINES is not set");
        return;
    };
    scene.sealed.seal(0..700);
    scene.lake().succeed();
    scene.sealed.seal(700..1_200);
    scene.sealed.merge();
    scene.lake().succeed();
    let output = Command::new(python)
        .args(["-c", READ])
        .arg(scene.data())
        .args(["s3://whales/main/lake", &scene.gateway.url(), Gateway::KEY, Gateway::SECRET])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("blocks 1200 719400\n") && said.lines().count() == 4, "{said}");
}
