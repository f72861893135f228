//! Writes to standard error and standard output without ever waiting for a reader.
//!
//! A reader may stall or go away, and neither may block or end a writer, let alone the supervisor
//! of a node. Lines go into a bounded queue that a thread writes out. While the queue is full,
//! lines are dropped and counted; the count is written once the reader continues.

use indicatif::TermLike;
use rustix::io::{Errno, write};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes queued for each stream, at most.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// How long writing the last lines may take: a stalled reader must not delay the exit.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How often a write to a descriptor that was made non-blocking is retried.
const TRY_EVERY: Duration = Duration::from_millis(10);

/// Stack of the writing thread, which does nothing else.
const STACK_BYTES: usize = 128 << 10;

static STDERR: Lines = Lines::new(|bytes| write(io::stderr(), bytes));
static STDOUT: Lines = Lines::new(|bytes| write(io::stdout(), bytes));

/// The prefix of this process's own lines.
static PREFIX: OnceLock<&str> = OnceLock::new();

/// The lines on standard error.
pub(crate) fn stderr() -> &'static Lines {
    &STDERR
}

/// The lines on standard output.
pub(crate) fn stdout() -> &'static Lines {
    &STDOUT
}

/// Sets the prefix of this process's own lines from now on.
pub(crate) fn put_in_front(prefix: &'static str) {
    // The first one stays.
    let _ = PREFIX.set(prefix);
}

/// Writes a line of this process's own to standard error.
pub(crate) fn say(line: &str) {
    STDERR.push(format!("{}{line}\n", prefix()).into_bytes());
}

/// Waits a moment for the queued lines.
pub(crate) fn finish() {
    STDERR.finish();
    STDOUT.finish();
}

/// Reports panics as a normal line, because a missing reader must not cause a second panic.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        say(&format!("thread '{}' {panic}", thread.name().unwrap_or("unnamed")));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            say(&backtrace.to_string());
        }
        finish();
    }));
}

fn prefix() -> &'static str {
    PREFIX.get().copied().unwrap_or_default()
}

/// This process's own lines on standard error, for `tracing`, which writes complete lines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own;

impl io::Write for Own {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        STDERR.push([prefix().as_bytes(), line].concat());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error as a terminal for a progress bar, in order with the lines.
#[derive(Debug, Default)]
pub(crate) struct Screen(Mutex<String>);

impl Screen {
    fn draw(&self, text: fmt::Arguments<'_>) -> io::Result<()> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.write_fmt(text).map_err(io::Error::other)
    }

    /// Moves the cursor by this much, in the direction of this letter (ECMA-48).
    fn go(&self, by: usize, direction: char) -> io::Result<()> {
        if by > 0 { self.draw(format_args!("\x1b[{by}{direction}")) } else { Ok(()) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the call fills a live value of the expected type, or does nothing.
        unsafe { libc::ioctl(2, libc::TIOCGWINSZ, &raw mut size) };
        if size.ws_col == 0 { 80 } else { size.ws_col }
    }

    fn move_cursor_up(&self, by: usize) -> io::Result<()> {
        self.go(by, 'A')
    }

    fn move_cursor_down(&self, by: usize) -> io::Result<()> {
        self.go(by, 'B')
    }

    fn move_cursor_right(&self, by: usize) -> io::Result<()> {
        self.go(by, 'C')
    }

    fn move_cursor_left(&self, by: usize) -> io::Result<()> {
        self.go(by, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.draw(format_args!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(format_args!("{text}"))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw(format_args!("\r\x1b[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        STDERR.push(
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
                .into_bytes(),
        );
        Ok(())
    }
}

/// Writes bytes to a stream and returns how many; it blocks.
type Write = fn(&[u8]) -> rustix::io::Result<usize>;

/// One of the two streams.
#[derive(Debug)]
pub(crate) struct Lines {
    write: Write,
    /// Whether there is a thread to write with.
    has_thread: OnceLock<bool>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// Lines to be written.
#[derive(Debug)]
struct Queue {
    /// Each with the number of lines that were dropped before it.
    lines: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// Lines dropped after the last of them.
    dropped: u64,
    /// Whether a line is being written.
    writing: bool,
    /// Whether the last line could not be written.
    failed: bool,
}

impl Queue {
    fn has_work(&self) -> bool {
        !self.lines.is_empty() || (self.dropped > 0 && !self.failed)
    }
}

impl Lines {
    const fn new(write: Write) -> Self {
        let queue =
            Queue { lines: VecDeque::new(), bytes: 0, dropped: 0, writing: false, failed: false };
        Self {
            write,
            has_thread: OnceLock::new(),
            queue: Mutex::new(queue),
            changed: Condvar::new(),
        }
    }

    /// Queues a line, including its newline.
    pub(crate) fn push(&'static self, line: Vec<u8>) {
        let thread = || thread::Builder::new().name("lines".to_owned()).stack_size(STACK_BYTES);
        if !self.has_thread.get_or_init(|| thread().spawn(|| self.write_all()).is_ok()) {
            // Blocking is better than losing it.
            put(self.write, &line);
            return;
        }
        let mut queue = self.queue();
        if queue.bytes + line.len() > QUEUE_BYTES_MAX && queue.bytes > 0 {
            queue.dropped += 1;
        } else {
            queue.bytes += line.len();
            let dropped = std::mem::take(&mut queue.dropped);
            queue.lines.push_back((dropped, line));
            self.changed.notify_all();
        }
    }

    /// Waits a moment for the queued lines.
    fn finish(&self) {
        // In time or not, there is nothing more to do.
        let _ = self.changed.wait_timeout_while(self.queue(), LAST_LINES, |queue| {
            queue.writing || queue.has_work()
        });
    }

    /// Writes one line after the other, on a thread of its own.
    fn write_all(&self) {
        let mut queue = self.queue();
        loop {
            queue = self
                .changed
                .wait_while(queue, |queue| !queue.has_work())
                .unwrap_or_else(PoisonError::into_inner);
            let next = queue.lines.pop_front();
            let (dropped, line) =
                next.unwrap_or_else(|| (std::mem::take(&mut queue.dropped), Vec::new()));
            queue.bytes -= line.len();
            queue.writing = true;
            drop(queue);
            let lost = dropped + u64::from(!line.is_empty());
            let is_written =
                put(self.write, &if dropped > 0 { [notice(dropped), line].concat() } else { line });
            queue = self.queue();
            (queue.writing, queue.failed) = (false, !is_written);
            if !is_written {
                let Queue { lines, dropped, .. } = &mut *queue;
                *lines.front_mut().map_or(dropped, |(before, _)| before) += lost;
            }
            self.changed.notify_all();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line that replaces dropped lines.
fn notice(dropped: u64) -> Vec<u8> {
    format!("{}{dropped} lines were dropped here: nobody read them\n", prefix()).into_bytes()
}

/// Writes all of it, blocking; returns whether that succeeded.
fn put(write: Write, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => thread::sleep(TRY_EVERY),
            Err(_) => return false,
        }
    }
    true
}

/// Marks a phase of writing in the log, for tests that kill the process in it.
pub(crate) fn phase(name: &'static str) -> impl Drop {
    struct Phase(&'static str);
    impl Drop for Phase {
        fn drop(&mut self) {
            tracing::debug!(target: "spyhop::phase", phase = %self.0, "exit");
        }
    }
    tracing::debug!(target: "spyhop::phase", phase = %name, "enter");
    Phase(name)
}
