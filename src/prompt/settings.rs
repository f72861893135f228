//! What commands change.

use super::format::Format;
use super::output::Output;
use anyhow::Result;

/// How and where rows are printed.
pub(super) struct Settings {
    pub(super) format: Format,
    pub(super) output: Output,
    /// Whether the time of each statement is printed.
    pub(super) timing: bool,
}

impl Settings {
    /// Prints text where rows go.
    pub(super) fn print(&mut self, text: &str) -> Result<()> {
        self.output.print(|out| Ok(out.write_all(text.as_bytes())?))
    }
}
