//! Two processes in one container: `spyhop run` starts and supervises geth and a writer.
//!
//! It is PID 1 there: it forwards one SIGTERM or SIGINT to each, reaps the orphans of both,
//! restarts the writer if that dies, and exits with geth's exit code. The writer is a process of
//! its own, so that nothing that happens to it (a failed assertion in DuckDB, running out of
//! memory) can affect geth. geth is never restarted here: whoever runs the container decides about
//! that.
//!
//! `node` reads geth's command line: where its socket is, and whether one of geth's own commands is
//! to be run instead. `relay` forwards the log lines of both, prefixed with the process name.

pub(crate) mod node;
mod relay;

use crate::error::Refused;
use crate::log;
use anyhow::{Context, Result};
use relay::Relay;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait,
};
use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::low_level::signal_name;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The first pause before a writer that died is restarted, and the longest: a writer that died in
/// the middle of its work has left work for geth to finish, and must not pile up more.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A writer that lived this long has nothing to do with the previous failure.
const SETTLED: Duration = Duration::from_secs(60);

/// How long the writer may take to exit once geth has: it promises less.
const WRITER_GRACE: Duration = Duration::from_secs(8);

/// The exit code of a writer whose setup was refused: an early retry would change nothing.
const REFUSED: i32 = 2;

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// geth and its arguments.
    pub node: Vec<OsString>,
    /// The writer and its arguments.
    pub writer: Vec<OsString>,
    /// Whether the writer exits by itself when it has done its task.
    pub writer_ends: bool,
}

/// Runs both until geth exits.
///
/// Returns geth's exit code; 128 plus the signal's number if a signal killed it.
pub(crate) fn run(plan: &Plan) -> Result<u8> {
    // Before anything is started, so that no exit is missed.
    let events = signals()?;
    // Outside a container orphans would go to the real PID 1.
    set_child_subreaper(Some(getpid())).context("failed to become the parent of orphans")?;
    let relay = Relay::default();
    let mut supervisor = Supervisor {
        node: Some(
            start("geth", &plan.node, &relay).map_err(|error| not_started(&plan.node, &error))?,
        ),
        plan,
        relay: &relay,
        writer: None,
        restart_at: Some(Instant::now()),
        started_at: Instant::now(),
        pause: PAUSE_MIN,
        asked_to_stop: false,
    };
    let ended = supervisor.until_node_ends(&events)?;
    supervisor.end_writer(&events)?;
    drop(supervisor);
    relay.finish();
    tracing::info!("geth {}", words(ended));
    Ok(code(ended))
}

/// Replaces this process with a command. Returns only if that cannot be started, with the reason.
pub(crate) fn replace(words: &[OsString]) -> anyhow::Error {
    let error = match words.split_first() {
        Some((program, arguments)) => Command::new(program).args(arguments).exec(),
        None => io::ErrorKind::InvalidInput.into(),
    };
    not_started(words, &error).into()
}

fn not_started(words: &[OsString], error: &io::Error) -> Refused {
    let what = words.first().cloned().unwrap_or_default();
    Refused::new(
        format!("failed to start `{}`: {error}", what.display()),
        "after `--`, give the command that starts geth",
    )
}

/// The state of both processes. Neither outlives it without being asked to stop.
struct Supervisor<'a> {
    plan: &'a Plan,
    relay: &'a Relay,
    node: Option<Pid>,
    writer: Option<Pid>,
    /// When to start a writer, while there is none; `None` if it has done its task.
    restart_at: Option<Instant>,
    started_at: Instant,
    pause: Duration,
    asked_to_stop: bool,
}

impl Supervisor<'_> {
    /// Forwards signals, reaps, and restarts the writer, until geth has exited.
    fn until_node_ends(&mut self, events: &Receiver<i32>) -> Result<WaitStatus> {
        loop {
            let due = self.restart_at.filter(|_| self.writer.is_none() && !self.asked_to_stop);
            match next(events, due)? {
                None => self.start_writer(),
                Some(SIGCHLD) => {
                    if let Some(ended) = self.note_ends()? {
                        return Ok(ended);
                    }
                }
                Some(signal) if ENDS.contains(&signal) => self.forward(signal),
                // geth has no handler and would die of it; so would this process if it is not PID
                // 1.
                Some(signal) => {
                    tracing::info!("{} is not forwarded", signal_name(signal).unwrap_or("a signal"))
                }
            }
        }
    }

    /// Ends the writer after geth: asks, waits, and finally kills it, which loses nothing that was
    /// committed.
    fn end_writer(&mut self, events: &Receiver<i32>) -> Result<()> {
        if !self.asked_to_stop {
            self.forward(SIGTERM);
        }
        let deadline = Instant::now() + WRITER_GRACE;
        // An exit may have been reaped, or be due, without a signal of its own.
        loop {
            self.note_ends()?;
            let Some(writer) = self.writer else { return Ok(()) };
            match next(events, Some(deadline))? {
                None => {
                    let _ = kill_process(writer, Signal::KILL);
                    self.writer = None;
                    tracing::warn!(
                        "the writer did not exit within {WRITER_GRACE:?} and was killed"
                    );
                    return Ok(());
                }
                Some(signal) if ENDS.contains(&signal) => self.forward(signal),
                Some(_) => {}
            }
        }
    }

    fn start_writer(&mut self) {
        self.started_at = Instant::now();
        match start("spyhop", &self.plan.writer, self.relay) {
            Ok(writer) => {
                self.writer = Some(writer);
                self.restart_at = None;
            }
            Err(error) => self.start_again_later(&format!("could not be started: {error}")),
        }
    }

    /// Forwards a signal to each process.
    fn forward(&mut self, signal: i32) {
        let again = std::mem::replace(&mut self.asked_to_stop, true);
        self.signal_all(if signal == SIGINT { Signal::INT } else { Signal::TERM });
        tracing::info!(
            "{}, forwarded to geth and the writer",
            if again { "received a second stop signal" } else { "asked to stop" }
        );
    }

    fn signal_all(&self, signal: Signal) {
        for process in [self.node, self.writer].into_iter().flatten() {
            // It may just have exited: that will be reaped.
            let _ = kill_process(process, signal);
        }
    }

    /// Handles every process that has exited since: geth, whose status is returned, the writer, or
    /// an orphan, which is ignored.
    fn note_ends(&mut self) -> Result<Option<WaitStatus>> {
        let ended = reap()?;
        let node = ended.iter().find(|(process, _)| self.node == Some(*process));
        if node.is_some() {
            self.node = None;
        }
        if let Some((_, status)) = ended.iter().find(|(process, _)| self.writer == Some(*process)) {
            self.writer = None;
            self.note_writers_end(*status);
        }
        Ok(node.map(|(_, status)| *status))
    }

    fn note_writers_end(&mut self, status: WaitStatus) {
        match status.exit_status() {
            _ if self.asked_to_stop || self.node.is_none() => {
                tracing::info!("the writer {}", words(status))
            }
            Some(0) if self.plan.writer_ends => {
                tracing::info!("the writer is done; geth keeps running");
            }
            Some(REFUSED) => {
                self.restart_at = Some(Instant::now() + PAUSE_MAX);
                tracing::error!(
                    "the writer refused its setup, see above; geth keeps running, next try in \
                    {PAUSE_MAX:?}"
                );
            }
            _ => self.start_again_later(&words(status)),
        }
    }

    fn start_again_later(&mut self, why: &str) {
        if self.started_at.elapsed() >= SETTLED {
            self.pause = PAUSE_MIN;
        }
        self.restart_at = Some(Instant::now() + self.pause);
        tracing::error!("the writer {why}; geth keeps running, next try in {:?}", self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        self.signal_all(Signal::TERM);
    }
}

/// Signals that ask a process to stop.
const ENDS: [i32; 3] = [SIGTERM, SIGINT, SIGQUIT];

/// The signals to this process, as they arrive.
fn signals() -> Result<Receiver<i32>> {
    let others = [SIGHUP, SIGCHLD, SIGALRM, SIGUSR1, SIGUSR2];
    let mut signals = signal_hook::iterator::Signals::new(ENDS.into_iter().chain(others))?;
    let (sender, events) = channel();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                break;
            }
        }
    })?;
    Ok(events)
}

/// The next signal; `None` if there was none before `due`.
fn next(events: &Receiver<i32>, due: Option<Instant>) -> Result<Option<i32>> {
    let gone = "the signal thread is gone";
    let Some(due) = due else { return Ok(Some(events.recv().context(gone)?)) };
    match events.recv_timeout(due.saturating_duration_since(Instant::now())) {
        Ok(signal) => Ok(Some(signal)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(error) => Err(error).context(gone),
    }
}

/// Every child that has exited since, including orphans.
fn reap() -> Result<Vec<(Pid, WaitStatus)>> {
    let mut ended = Vec::new();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((process, status))) if status.exited() || status.signaled() => {
                ended.push((process, status))
            }
            Ok(Some(_)) => {}
            // All are alive, or there is none left.
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(ended),
            Err(error) => return Err(error).context("failed to wait for processes"),
        }
    }
}

/// Starts a process in a group of its own, so that Ctrl-C in a terminal reaches this process only,
/// and each of them once.
fn start(name: &'static str, words: &[OsString], relay: &Relay) -> io::Result<Pid> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdout =
        child.stdout.take().map_or(Ok(()), |stdout| relay.pass_on(name, stdout, log::stdout()));
    let stderr =
        child.stderr.take().map_or(Ok(()), |stderr| relay.pass_on(name, stderr, log::stderr()));
    if let Err(error) = stdout.and(stderr) {
        // Without its log lines it is useless, and nobody would own it.
        child.kill().and_then(|()| child.wait())?;
        return Err(error);
    }
    Ok(Pid::from_child(&child))
}

fn words(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

/// The exit code as a shell would report it.
fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
