//! The program under test as users run it: a process with arguments, an exit code, and two text
//! streams.

use super::{PATIENCE, wait_for};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A command line of spyhop, being built.
#[derive(Debug)]
pub struct Spyhop {
    command: Command,
}

/// A running spyhop, killed on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    /// Its log so far, the latest line last.
    seen: VecDeque<String>,
}

impl Spyhop {
    /// A command of spyhop, without arguments yet.
    pub fn new(command: &str) -> Self {
        Self::of(Path::new(env!("CARGO_BIN_EXE_spyhop")), command)
    }

    /// The same for another binary than the one under test.
    pub fn of(binary: &Path, command: &str) -> Self {
        let mut process = Command::new(binary);
        process.arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The tests' own environment must not set flags.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SPYHOP_") {
                process.env_remove(name);
            }
        }
        process.env("SPYHOP_LOG", "spyhop::phase=debug,info");
        Self { command: process }
    }

    /// `spyhop watch` next to a node.
    pub fn watch(socket: &Path, data: &Path) -> Self {
        Self::new("watch").path("--ipc", socket).path("--data", data)
    }

    /// `spyhop backfill` next to a node.
    pub fn backfill(socket: &Path, data: &Path) -> Self {
        Self::new("backfill").path("--ipc", socket).path("--data", data)
    }

    /// `spyhop verify --deep`.
    pub fn verify(data: &Path) -> Self {
        Self::new("verify").path("--data", data).args(&["--deep"])
    }

    /// The same, run by another program that is given its command line.
    pub fn by(self, program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// The same without capabilities, as in a container: there root is a user like any other.
    pub fn without_capabilities(self) -> Self {
        self.by("setpriv", &["--bounding-set=-all"])
    }

    /// Runs this in the new process before the program starts.
    ///
    /// It must do nothing but system calls: other threads of the tests may hold any lock.
    pub fn prepared(
        mut self,
        prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        // SAFETY: see above.
        unsafe { self.command.pre_exec(prepare) };
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Adds a flag that takes a path.
    pub fn path(mut self, flag: &str, path: &Path) -> Self {
        self.command.arg(flag).arg(path);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it with a standard output whose reader is gone; returns its exit code and standard
    /// error.
    pub fn unheard(mut self) -> (Option<i32>, String) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = self.command.stdout(writer).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), stderr_of(&output))
    }

    /// Runs it to its end, whatever that is.
    #[track_caller]
    pub fn run(mut self) -> Output {
        let mut child = self.command.spawn().unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let read_stdout = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).map(|_| bytes)
        });
        let read_stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).map(|_| bytes)
        });
        let start = Instant::now();
        let (status, in_time) = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break (status, true);
            }
            if start.elapsed() > PATIENCE {
                child.kill().unwrap();
                break (child.wait().unwrap(), false);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let output = Output {
            status,
            stdout: read_stdout.join().unwrap().unwrap(),
            stderr: read_stderr.join().unwrap().unwrap(),
        };
        assert!(
            in_time,
            "{:?} did not end within {PATIENCE:?}:\n{}",
            self.command,
            stderr_of(&output)
        );
        output
    }

    /// Runs it, requires success, and returns its standard output.
    #[track_caller]
    pub fn succeed(self) -> String {
        let shown = format!("{:?}", self.command);
        let output = self.run();
        assert!(output.status.success(), "{shown}: {}\n{}", output.status, stderr_of(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, requires this exit code, and returns its standard error.
    #[track_caller]
    pub fn fail(self, code: i32) -> String {
        let shown = format!("{:?}", self.command);
        let output = self.run();
        assert_eq!(output.status.code(), Some(code), "{shown}:\n{}", stderr_of(&output));
        stderr_of(&output)
    }

    /// Starts it with a standard error that nobody reads, and returns that too.
    pub fn spawn_unread(mut self) -> (Running, ChildStderr) {
        let mut child = self.command.stdout(Stdio::null()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        (Running { child, lines: channel().1, seen: VecDeque::new() }, stderr)
    }

    /// Starts it.
    pub fn spawn(mut self) -> Running {
        let mut child = self.command.stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Running { child, lines, seen: VecDeque::new() }
    }
}

impl Running {
    /// The next line it logs; `None` if it has ended.
    #[track_caller]
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                if self.seen.len() == 50 {
                    self.seen.pop_front();
                }
                self.seen.push_back(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("silent for {PATIENCE:?}:\n{}", self.log()),
        }
    }

    /// The next line within this time, if there is one.
    pub fn line_within(&mut self, time: Duration) -> Option<String> {
        let line = self.lines.recv_timeout(time).ok()?;
        if self.seen.len() == 50 {
            self.seen.pop_front();
        }
        self.seen.push_back(line.clone());
        Some(line)
    }

    /// Waits for a line that contains all of these, and returns it.
    #[track_caller]
    pub fn wait_for(&mut self, parts: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let line = self
                .line()
                .unwrap_or_else(|| panic!("ended before it said {parts:?}:\n{}", self.log()));
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "did not say {parts:?} within {PATIENCE:?}:\n{}",
                self.log()
            );
        }
    }

    /// The last lines it logged.
    pub fn log(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        let skip = self.seen.len().saturating_sub(50);
        self.seen.iter().skip(skip).map(|line| format!("  {line}\n")).collect()
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        signal_to(&self.child, signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "did not end within {PATIENCE:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends SIGTERM, requires a successful exit, and returns how long that took.
    #[track_caller]
    pub fn stop(&mut self) -> Duration {
        let start = Instant::now();
        self.signal(libc::SIGTERM);
        let status = self.wait();
        let took = start.elapsed();
        assert!(status.success(), "after SIGTERM: {status}:\n{}", self.log());
        took
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Children of `spyhop run` would outlive it.
        for child in children(self.id()) {
            // It may have ended by now.
            send(child, libc::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("spyhop's last words:\n{}", self.log());
        }
    }
}

/// Sends a signal to a process of ours.
pub fn signal(process: &Child, number: i32) {
    signal_to(process, number);
}

fn signal_to(process: &Child, number: i32) {
    // It is our child and not yet reaped, so its ID is not another's.
    assert!(send(process.id(), number), "the process is gone");
}

/// Sends a signal to a process that was started by a process of ours; returns whether it existed.
pub fn send(process: u32, signal: i32) -> bool {
    let id = libc::pid_t::try_from(process).unwrap();
    // SAFETY: `kill` takes two numbers.
    unsafe { libc::kill(id, signal) == 0 }
}

/// Every child of a process, including zombies.
pub fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let processes = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes
        .filter(|process| stat(*process).is_some_and(|fields| fields[1] == parent.to_string()))
        .collect()
}

/// `/proc/PROCESS/stat` from the state on; `None` if there is no such process.
pub fn stat(process: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// What a process wrote to standard error.
pub fn stderr_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every file below a directory with a hash of its content.
pub fn listing(directory: &Path) -> Vec<(PathBuf, String)> {
    fn visit(directory: &Path, root: &Path, all: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, root, all);
            } else {
                let content = std::fs::read(&path).unwrap_or_default();
                let hash = ethers::utils::hex::encode(ethers::utils::keccak256(content));
                all.push((path.strip_prefix(root).unwrap().to_owned(), hash));
            }
        }
    }
    let mut all = Vec::new();
    visit(directory, directory, &mut all);
    all.sort();
    all
}

/// Waits until `probe` returns a value while the process runs.
#[track_caller]
pub fn until<T>(running: &mut Running, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let value = wait_for(what, || match probe() {
        Some(value) => Some(Ok(value)),
        None if !running.is_running() => Some(Err(())),
        None => None,
    });
    value.unwrap_or_else(|()| panic!("ended while waited for {what}:\n{}", running.log()))
}
