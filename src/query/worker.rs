//! A worker's life: it limits itself, opens the published file, waits for its query, closes the
//! sandbox, runs the query, and ends.
//!
//! Landlock and seccomp hold a thread and those that it starts, so this process must still be
//! single-threaded when the sandbox is closed: DuckDB is opened without threads, and gets them
//! afterwards. The published file is attached ahead of the query and stays open; the sandbox allows
//! to open no more than the files of the sealed ranges and of the ranking.

use super::answer::{self, Rows};
use super::columns::{columns, kinds, readable};
use super::encode::instant;
use super::frame::{self, Complaint, End, Kind, Request};
use super::{Published, limits, sandbox, statement};
use crate::publish;
use crate::session;
use crate::sql::literal;
use anyhow::{Context, Result, anyhow, bail};
use arrow::datatypes::TimeUnit;
use duckdb::{Config, Connection};
use serde::Deserialize;
use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::mem::ManuallyDrop;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// The directories whose files the published views name.
const READABLE: [&str; 3] = ["chain", "tail", "whales"];

/// How much longer than the deadline a worker lives that nobody kills.
const GRACE: Duration = Duration::from_secs(1);

/// Stack of the threads that only wait.
const WAITING_STACK_BYTES: usize = 64 << 10;

/// How a worker is started.
#[derive(Debug)]
pub(crate) struct Options {
    /// The data directory.
    pub data: PathBuf,
    /// All memory, in bytes.
    pub memory_bytes_max: u64,
    /// Processor time, in seconds.
    pub cpu_s_max: u64,
    /// Threads of DuckDB.
    pub threads: u16,
}

/// Runs a worker and ends the process; all errors are said to the pool.
pub(crate) fn run(options: &Options) -> ! {
    let said = match answer(options) {
        Ok(end) => serde_json::to_vec(&end).map(|end| frame::encode(Kind::End, &end)),
        Err(why) => serde_json::to_vec(&why).map(|why| frame::encode(Kind::Complaint, &why)),
    };
    // If the pool is gone, nobody wants to know.
    let told = said.is_ok_and(|frame| say(&frame).is_ok());
    // At once: what DuckDB would free, the system frees faster.
    end(i32::from(!told))
}

fn answer(options: &Options) -> Result<End, Complaint> {
    limits::apply(options.memory_bytes_max, options.cpu_s_max).map_err(|error| broken(&error))?;
    std::env::set_current_dir(&options.data).map_err(|error| {
        broken(&anyhow!("no data directory `{}`: {error}", options.data.display()))
    })?;
    let mut session = ManuallyDrop::new(Session::open(options)?);
    say(&frame::encode(Kind::Ready, &[])).map_err(|error| broken(&error.into()))?;
    let request = receive().map_err(|error| broken(&error))?;
    session.attach_newest()?;
    session.close_sandbox(&request, options.threads).map_err(|error| broken(&error))?;
    let checked = statement::check(&session.connection, &request.sql);
    let sql = checked.map_err(|error| failed(&error))?.map_err(Complaint::Refused)?;
    session.run(&sql, &request)
}

fn broken(error: &anyhow::Error) -> Complaint {
    Complaint::Broken(format!("{error:#}"))
}

/// DuckDB's error as it says it when it comes from the conversion to Arrow.
#[derive(Deserialize)]
struct Exception {
    exception_type: String,
    exception_message: String,
}

/// DuckDB's own message, without what its crate adds.
fn failed(error: &anyhow::Error) -> Complaint {
    let message = match error.downcast_ref::<duckdb::Error>() {
        Some(duckdb::Error::DuckDBFailure(_, Some(message))) => message.clone(),
        _ => format!("{error:#}"),
    };
    let message = match serde_json::from_str::<Exception>(&message) {
        Ok(error) => format!("{} Error: {}", error.exception_type, error.exception_message),
        Err(_) => message,
    };
    // The rest of this one advises settings that are locked.
    let message = match message.lines().next() {
        Some(first) if first.starts_with("Out of Memory Error") => {
            format!("{first}: ask for less at once")
        }
        _ => message,
    };
    Complaint::Failed(message)
}

/// A database in memory with the published file attached read-only.
struct Session {
    connection: Connection,
    /// The inode of the attached file, which stays taken as long as the file is open.
    inode: u64,
    published: Published,
}

impl Session {
    fn open(options: &Options) -> Result<Self, Complaint> {
        let config = || {
            let memory = format!("{}MiB", (options.memory_bytes_max >> 20) / 3);
            Config::default()
                .with("threads", "1")?
                .with("async_threads", "0")?
                .with("memory_limit", memory)?
                .with("temp_directory", "")?
                .with("autoinstall_known_extensions", "false")?
                .with("autoload_known_extensions", "false")
        };
        let connection = config().and_then(Connection::open_in_memory_with_flags);
        let connection = connection.map_err(|error| broken(&error.into()))?;
        session::prepare(&connection).map_err(|error| broken(&error))?;
        let mut session = Self { connection, inode: 0, published: Published::default() };
        // What is used for the first time takes a while, and nobody waits yet.
        let warm = statement::check(&session.connection, "SELECT 1");
        warm.map_err(|error| broken(&error))?.map_err(Complaint::Refused)?;
        match session.attach_newest() {
            // There may be one by the time of the query.
            Ok(()) | Err(Complaint::Unpublished(_)) => Ok(session),
            Err(complaint) => Err(complaint),
        }
    }

    /// Attaches the published file, or a newer one if there is one.
    fn attach_newest(&mut self) -> Result<(), Complaint> {
        let found = fs::metadata(publish::FILE).map_err(|error| {
            Complaint::Unpublished(format!("no file `{}` yet: {error}", publish::FILE))
        })?;
        if found.ino() == self.inode {
            return Ok(());
        }
        if self.inode != 0 {
            let detach = self.connection.execute_batch("USE memory; DETACH spyhop");
            detach.map_err(|error| failed(&error.into()))?;
        }
        let file = literal(publish::FILE);
        let attach = format!("ATTACH {file} AS spyhop (READ_ONLY); USE spyhop");
        self.connection.execute_batch(&attach).map_err(|error| broken(&error.into()))?;
        self.inode = found.ino();
        self.published = match published(&self.connection) {
            // Its rows can be queried all the same.
            Err(error) if publish::is_of_another_version(&error) => Published::default(),
            read => read.map_err(|error| broken(&error))?,
        };
        Ok(())
    }

    /// From here on this process can only read and compute.
    fn close_sandbox(&self, request: &Request, threads: u16) -> Result<()> {
        let running = fs::read_dir("/proc/self/task").context("failed to count threads")?.count();
        if running != 1 {
            bail!("{running} threads are running, which the sandbox would not hold");
        }
        sandbox::close(Path::new("."), &READABLE)?;
        end_by_itself(Duration::from_millis(request.deadline_ms) + GRACE)?;
        let directories = READABLE.map(literal).join(", ");
        self.connection.execute_batch(&format!(
            "SET threads = {threads}; SET allowed_directories = [{directories}]; \
             SET enable_external_access = false; SET lock_configuration = true"
        ))?;
        Ok(())
    }

    fn run(&self, sql: &str, request: &Request) -> Result<End, Complaint> {
        let run = || {
            let mut statement = self.connection.prepare(sql)?;
            if statement.parameter_count() > 0 {
                return Ok(Err("write values into the statement: it has parameters".to_owned()));
            }
            let mut kinds = kinds(&statement);
            if let Some((text, described)) = readable(&self.connection, sql, &statement)? {
                statement = self.connection.prepare(&text)?;
                kinds = described.into_iter().map(|column| column.kind).collect();
            }
            let batches = statement.stream_arrow([])?;
            let schema = batches.get_schema();
            let rows = Rows { columns: columns(&schema, kinds), schema, batches };
            let mut data = BufWriter::with_capacity(frame::DATA_BYTES_MAX, Data);
            let end = answer::write(&mut data, request, &self.published, rows)?;
            data.flush()?;
            anyhow::Ok(Ok(end))
        };
        run().map_err(|error| failed(&error))?.map_err(Complaint::Refused)
    }
}

/// The newest block of the attached file.
fn published(connection: &Connection) -> Result<Published> {
    // It is nearly always in the tail, and reading that opens no other file.
    let newest = |blocks: &str| {
        let newest = format!(
            "SELECT newest.number, hash, epoch_us(newest.timestamp) FROM tail.newest LEFT JOIN \
             {blocks} AS blocks ON blocks.number = newest.number LIMIT 1"
        );
        let mut statement = connection.prepare(&newest)?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { return Ok(Published::default()) };
        let (block, hash): (u64, Option<String>) = (row.get(0)?, row.get(1)?);
        let microseconds: Option<i64> = row.get(2)?;
        anyhow::Ok(Published {
            id: hash.as_ref().map(|hash| format!("{block}-{hash}")),
            block: Some(block),
            hash,
            timestamp: microseconds.map(|value| instant(value, TimeUnit::Microsecond)),
        })
    };
    let found = newest("tail.blocks")?;
    if found.block.is_some() && found.hash.is_none() { newest("main.blocks") } else { Ok(found) }
}

/// Ends this process after that time, or when the pool closes its end of standard input, whatever
/// the query does.
fn end_by_itself(after: Duration) -> Result<()> {
    let waiting = || thread::Builder::new().stack_size(WAITING_STACK_BYTES);
    waiting().spawn(move || {
        thread::sleep(after);
        end(1)
    })?;
    waiting().spawn(move || {
        // Nothing follows the request, so this returns when there is nobody any more.
        let _ = io::stdin().read(&mut [0]);
        end(1)
    })?;
    Ok(())
}

/// Ends the process at once.
fn end(code: i32) -> ! {
    // SAFETY: it takes a number, and runs nothing of this process.
    unsafe { libc::_exit(code) }
}

/// Waits for the request.
fn receive() -> Result<Request> {
    let mut stdin = io::stdin().lock();
    let mut head = [0; frame::HEAD_BYTES];
    stdin.read_exact(&mut head).context("no query")?;
    let (Kind::Request, length) = frame::decode(head)? else { bail!("not a query") };
    let mut content = vec![0; length];
    stdin.read_exact(&mut content).context("half a query")?;
    serde_json::from_slice(&content).context("not a query")
}

/// Writes a frame, past the buffer of `io::stdout`, which is one of lines.
fn say(mut frame: &[u8]) -> io::Result<()> {
    while !frame.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(io::stdout(), frame))?;
        frame = &frame[written..];
    }
    Ok(())
}

/// What is written to it goes to the pool in data frames.
struct Data;

impl Write for Data {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(frame::DATA_BYTES_MAX)];
        say(&frame::encode(Kind::Data, bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
