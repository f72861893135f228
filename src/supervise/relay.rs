//! Forwards the lines of the two processes to the same stream, prefixed with the process name. They
//! are read whether or not anybody reads the output: geth must never block on that.

use crate::log::Lines;
use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// A longer line is forwarded in pieces.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// How long to wait for the last lines: an orphan may keep a stream open for ever.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Every stream that is forwarded.
#[derive(Debug)]
pub(super) struct Relay {
    /// Each open stream keeps a copy, and nothing is ever sent.
    open: Sender<Infallible>,
    closed: Receiver<Infallible>,
}

impl Default for Relay {
    fn default() -> Self {
        let (open, closed) = channel();
        Self { open, closed }
    }
}

impl Relay {
    /// Forwards lines until the stream ends.
    pub(super) fn pass_on(
        &self,
        name: &'static str,
        from: impl Read + Send + 'static,
        to: &'static Lines,
    ) -> io::Result<()> {
        let open = self.open.clone();
        thread::Builder::new().name(format!("{name}'s lines")).spawn(move || {
            copy(name, BufReader::new(from), to);
            drop(open);
        })?;
        Ok(())
    }

    /// Waits for the last lines of processes that have exited.
    pub(super) fn finish(self) {
        drop(self.open);
        // In time or not, there is nothing more to do.
        let _ = self.closed.recv_timeout(LAST_LINES);
    }
}

fn copy(name: &str, mut from: impl BufRead, to: &'static Lines) {
    loop {
        let mut line = prefix(name).into_bytes();
        match from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if !line.ends_with(b"\n") {
                    line.push(b'\n');
                }
                to.push(line);
            }
        }
    }
}

/// The prefix of a line.
fn prefix(name: &str) -> String {
    format!("{name} | ")
}
