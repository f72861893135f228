//! Runs statements and commands, typed or from a script.

use super::commands::{self, Next};
use super::format::Format;
use super::output::Output;
use super::query;
use super::settings::Settings;
use super::statements::{Reader, Step};
use crate::session::Session;
use crate::text;
use anyhow::{Context, Result, bail};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Files that may be read one in the other.
const DEPTH_MAX: u32 = 16;

/// Statements and commands go in here, rows come out.
pub(super) struct Shell {
    pub(super) session: Session,
    settings: Settings,
    /// Set by Ctrl-C, which also stops the query that runs.
    pub(super) interrupted: Arc<AtomicBool>,
    /// Whether tables may have come or gone since this was last set to `false`.
    pub(super) is_changed: bool,
    /// Files that are being read, one in the other.
    depth: u32,
}

impl Shell {
    pub(super) fn new(session: Session, format: Format) -> Self {
        let settings = Settings { format, output: Output::new(session.data()), timing: false };
        Self { session, settings, interrupted: Arc::default(), is_changed: true, depth: 0 }
    }

    /// Runs statements and commands until one fails; the last statement may lack its semicolon.
    /// Returns whether there is more to run after them.
    pub(super) fn run(&mut self, text: &str) -> Result<bool> {
        let mut reader = Reader::default();
        for line in text.lines() {
            for step in reader.line(line, commands::is_known) {
                if !self.step(step)? {
                    return Ok(false);
                }
            }
        }
        reader.end().map_or(Ok(true), |sql| self.step(Step::Statement(sql)))
    }

    /// Runs a statement or a command; returns whether there is more to run after it.
    pub(super) fn step(&mut self, step: Step) -> Result<bool> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        match step {
            Step::Statement(sql) => self.statement(&sql).map(|()| true),
            Step::Command(line) => match commands::run(&line, &self.session, &mut self.settings)? {
                Next::More => Ok(true),
                Next::Read(file) => self.read(&file),
                Next::Quit => Ok(false),
            },
        }
    }

    fn statement(&mut self, sql: &str) -> Result<()> {
        self.refresh()?;
        let start = Instant::now();
        let Settings { format, output, timing } = &mut self.settings;
        let has_rows =
            query::run(self.session.connection(), sql, *format, output, &self.interrupted);
        if *timing {
            say(&format!("{:.3} s", start.elapsed().as_secs_f64()));
        }
        self.is_changed |= !has_rows?;
        Ok(())
    }

    fn read(&mut self, file: &str) -> Result<bool> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("failed to read: `{file}`"))?;
        if self.depth == DEPTH_MAX {
            bail!("`{file}` is read by a file that is read by a file, and so on: no deeper");
        }
        self.depth += 1;
        let outcome = self.run(&text).with_context(|| format!("in `{file}`"));
        self.depth -= 1;
        outcome
    }

    /// Attaches a newer published file, and says so.
    fn refresh(&mut self) -> Result<()> {
        if self.session.refresh()? {
            self.is_changed = true;
            if let Some(block) = self.session.newest()? {
                say(&format!("a newer file is published: up to block {block}"));
            }
        }
        Ok(())
    }
}

/// A line for who runs this, beside the rows.
pub(super) fn say(line: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(io::stderr(), "{}", text::lines(line));
}
