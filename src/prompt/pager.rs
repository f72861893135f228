//! Text on a terminal, in a pager once it does not fit.

use anyhow::{Context, Result, bail};
use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use terminal_size::{Height, Width, terminal_size_of};
use unicode_width::UnicodeWidthStr;

/// The exit code of a shell that does not find the command.
const NOT_FOUND: i32 = 127;

/// Keeps text until it is known whether it fits the terminal; then prints it, or passes it to the
/// pager.
pub(super) struct Pager {
    /// `PAGER`; `None` if it is not set.
    command: Option<String>,
    to: To,
}

/// Where the text goes.
enum To {
    /// It is kept while it fits this many columns and lines.
    Kept(Vec<u8>, (usize, usize)),
    Terminal,
    Child(Child),
}

impl Pager {
    /// Pages with `command`, by default `less -S`, which does not wrap lines; an empty one does
    /// not page.
    pub(super) fn new(command: Option<String>) -> Self {
        let wanted = command.as_deref() != Some("");
        let to = match terminal_size_of(io::stdout()).filter(|_| wanted) {
            Some((Width(columns), Height(lines))) if columns > 0 && lines > 0 => {
                To::Kept(Vec::new(), (columns.into(), lines.into()))
            }
            _ => To::Terminal,
        };
        Self { command, to }
    }

    /// Prints what is kept, or waits until the pager is left.
    ///
    /// # Errors
    /// If `PAGER` is not a command.
    pub(super) fn end(self) -> Result<()> {
        match self.to {
            To::Terminal => Ok(()),
            To::Kept(text, _) => Ok(to_terminal(&text)?),
            To::Child(mut child) => {
                drop(child.stdin.take());
                let status = child.wait().context("failed to wait for the pager")?;
                if status.code() == Some(NOT_FOUND) {
                    let command = self.command.unwrap_or_default();
                    bail!("no pager `{command}`; set PAGER to another, or to nothing for none");
                }
                Ok(())
            }
        }
    }

    /// Starts the pager; where there is none, the terminal scrolls.
    fn start(&self) -> To {
        let mut command = match &self.command {
            Some(command) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(command);
                shell
            }
            None => {
                let mut less = Command::new("less");
                less.arg("-S");
                less
            }
        };
        command.stdin(Stdio::piped()).spawn().map_or(To::Terminal, To::Child)
    }
}

/// Whether a text can be read without scrolling, with a prompt below it.
fn fits(text: &[u8], (columns, lines): (usize, usize)) -> bool {
    let text = String::from_utf8_lossy(text);
    text.lines().count() < lines && text.lines().all(|line| line.width() <= columns)
}

fn to_terminal(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let To::Kept(text, size) = &mut self.to {
            text.extend_from_slice(bytes);
            if fits(text, *size) {
                return Ok(bytes.len());
            }
            let text = std::mem::take(text);
            self.to = self.start();
            self.write_all(&text)?;
            return Ok(bytes.len());
        }
        match &mut self.to {
            To::Child(child) => {
                child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(bytes))?;
            }
            _ => to_terminal(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn what_is_too_long_or_too_wide_does_not_fit() {
        let check = |text: &str, expected| assert_eq!(fits(text.as_bytes(), (4, 3)), expected);
        check("", true);
        check("abcd\nab\n", true);
        check("abcde\n", false);
        check("a\nb\nc\n", false);
        // Each is two columns wide.
        check("🐋🐋\n", true);
        check("🐋🐋🐋\n", false);
    }
}
