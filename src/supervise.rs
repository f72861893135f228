//! Processes in one container: `spyhop run` starts and supervises geth, a writer, and a server if it
//! is asked for one.
//!
//! It is PID 1 there: it forwards one SIGTERM or SIGINT to each, reaps their orphans, restarts the
//! writer or the server if that dies, and exits with geth's exit code. Each is a process of its own,
//! so that nothing that happens to it (a failed assertion in DuckDB, running out of memory) can
//! affect geth. geth is never restarted here: whoever runs the container decides about that.
//!
//! `node` reads geth's command line: where its socket is, and whether one of geth's own commands is
//! to be run instead. `companion` is the state of a process next to geth. `relay` forwards the log
//! lines of all, prefixed with the process name.

mod companion;
pub(crate) mod node;
mod relay;

pub(crate) use companion::Role;

use crate::error::Refused;
use crate::log;
use anyhow::{Context, Result};
use companion::Companion;
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

/// How long the others may take to exit once geth has: they promise less.
const GRACE: Duration = Duration::from_secs(8);

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// geth and its arguments.
    pub node: Vec<OsString>,
    /// The writer, and the server if there is to be one.
    pub others: Vec<Role>,
}

/// Runs all until geth exits.
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
        relay: &relay,
        others: plan.others.iter().map(Companion::new).collect(),
        asked_to_stop: false,
    };
    let ended = supervisor.until_node_ends(&events)?;
    supervisor.end_others(&events)?;
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

/// The state of all processes. None outlives it without being asked to stop.
struct Supervisor<'a> {
    relay: &'a Relay,
    node: Option<Pid>,
    others: Vec<Companion<'a>>,
    asked_to_stop: bool,
}

impl Supervisor<'_> {
    /// Forwards signals, reaps, and restarts the others, until geth has exited.
    fn until_node_ends(&mut self, events: &Receiver<i32>) -> Result<WaitStatus> {
        loop {
            let due = self.others.iter().filter_map(Companion::due).min();
            match next(events, due.filter(|_| !self.asked_to_stop))? {
                None => self.start_due(),
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

    /// Ends the others after geth: asks, waits, and finally kills them.
    fn end_others(&mut self, events: &Receiver<i32>) -> Result<()> {
        if !self.asked_to_stop {
            self.forward(SIGTERM);
        }
        let deadline = Instant::now() + GRACE;
        // An exit may have been reaped, or be due, without a signal of its own.
        loop {
            self.note_ends()?;
            if self.others.iter().all(|other| other.process().is_none()) {
                return Ok(());
            }
            match next(events, Some(deadline))? {
                None => {
                    self.others.iter_mut().for_each(|other| other.kill(GRACE));
                    return Ok(());
                }
                Some(signal) if ENDS.contains(&signal) => self.forward(signal),
                Some(_) => {}
            }
        }
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for other in &mut self.others {
            if other.due().is_some_and(|due| due <= now) {
                other.start(self.relay);
            }
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
        let others = self.others.iter().filter_map(Companion::process);
        for process in self.node.into_iter().chain(others) {
            // It may just have exited: that will be reaped.
            let _ = kill_process(process, signal);
        }
    }

    /// Handles every process that has exited since: geth, whose status is returned, one of the
    /// others, or an orphan, which is ignored.
    fn note_ends(&mut self) -> Result<Option<WaitStatus>> {
        let mut node = None;
        let ended = reap()?;
        if let Some((_, status)) = ended.iter().find(|(process, _)| self.node == Some(*process)) {
            self.node = None;
            node = Some(*status);
        }
        let is_expected = self.asked_to_stop || self.node.is_none();
        for (process, status) in ended {
            for other in &mut self.others {
                if other.process() == Some(process) {
                    other.note_end(status, is_expected);
                }
            }
        }
        Ok(node)
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
