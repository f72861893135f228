//! Where rows go: to standard output, through the pager if they do not fit the terminal, or to a
//! file.

use super::pager::Pager;
use crate::text;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Where rows go.
pub(super) struct Output {
    file: Option<BufWriter<File>>,
    /// The data directory, whose files belong to the writer.
    data: PathBuf,
    /// The variable `PAGER`.
    pager: Option<String>,
}

impl Output {
    pub(super) fn new(data: &Path) -> Self {
        let pager = std::env::var("PAGER").ok().map(|pager| pager.trim().to_owned());
        Self { file: None, data: data.to_owned(), pager }
    }

    /// From here on, prints to a file, which is replaced.
    pub(super) fn set_file(&mut self, path: &Path) -> Result<()> {
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let name = || format!("failed to write: `{}`", path.display());
        if parent.canonicalize().with_context(name)?.starts_with(&self.data) {
            bail!(
                "`{}` is in the data directory, which only the writer changes; name another place",
                path.display()
            );
        }
        self.file = Some(BufWriter::new(File::create(path).with_context(name)?));
        Ok(())
    }

    /// From here on, prints to standard output.
    pub(super) fn set_stdout(&mut self) {
        self.file = None;
    }

    /// Prints what `write` writes.
    pub(super) fn print(&mut self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        if let Some(file) = &mut self.file {
            write(file)?;
            return Ok(file.flush()?);
        }
        if !io::stdout().is_terminal() {
            let mut out = io::stdout().lock();
            write(&mut out)?;
            return Ok(out.flush()?);
        }
        let mut out = Shown { out: Pager::new(self.pager.clone()), line: Vec::new() };
        let written = write(&mut out).and_then(|()| Ok(out.flush()?));
        let ended = out.out.end();
        // Who leaves the pager has seen enough.
        written.or_else(|error| if is_closed(&error) { Ok(()) } else { Err(error) })?;
        ended
    }
}

/// Whether an error says that who reads the output has closed it.
pub(super) fn is_closed(error: &anyhow::Error) -> bool {
    let is_broken_pipe =
        |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<io::Error>() {
            Some(error) => error.kind() == ErrorKind::BrokenPipe,
            None => false,
        };
    error.chain().any(is_broken_pipe)
}

/// Escapes what CSV would send to the terminal unchanged.
struct Shown<W> {
    out: W,
    /// What follows the last line end.
    line: Vec<u8>,
}

impl<W: Write> Shown<W> {
    fn pass(&mut self, until: usize) -> io::Result<()> {
        let rest = self.line.split_off(until);
        let lines = std::mem::replace(&mut self.line, rest);
        let lines = String::from_utf8_lossy(&lines);
        let shown = lines.split('\n').map(text::shown).collect::<Vec<_>>().join("\n");
        self.out.write_all(shown.as_bytes())
    }
}

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|byte| *byte == b'\n') {
            self.pass(end + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass(self.line.len())?;
        self.out.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Shown;
    use std::io::Write;

    #[test]
    fn nothing_reaches_the_terminal_unescaped() {
        let mut shown = Shown { out: Vec::new(), line: Vec::new() };
        // A character whose bytes come one by one, and a line without an end.
        for byte in "a\u{1b}[2J,🐋\r\nb\u{202e}\n\tc".bytes() {
            assert_eq!(shown.write(&[byte]).unwrap(), 1);
        }
        shown.flush().unwrap();
        let expected = "a\\u{1b}[2J,🐋\\r\nb\\u{202e}\n\\tc";
        assert_eq!(String::from_utf8(shown.out).unwrap(), expected);
    }
}
