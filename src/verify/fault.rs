//! One fault, printed as one line.

use std::fmt;

/// Texts up to this many characters are shown in full.
const SHOWN_MAX: usize = 80;

/// A fault: where it is, what was checked, what was expected and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The table, or the file relative to the volume.
    pub place: Box<str>,
    /// The block; `None` if it is about a whole file.
    pub block: Option<u64>,
    /// The row among the table's rows of that block, from 0.
    pub row: Option<usize>,
    /// What identifies the row, in a table that is not in block order.
    pub key: Option<Box<str>>,
    /// The column, or the check that failed.
    pub check: Box<str>,
    /// The expected value.
    pub expected: Box<str>,
    /// The value found.
    pub found: Box<str>,
}

impl Fault {
    /// A fault of a whole file or table.
    pub(super) fn new(
        place: impl Into<String>,
        check: &str,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        let (expected, found) = differing(&expected.to_string(), &found.to_string());
        let (place, check) = (place.into().into(), check.into());
        Self {
            place,
            block: None,
            row: None,
            key: None,
            check,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// Adds the block.
    pub(super) fn of_block(self, block: u64) -> Self {
        Self { block: Some(block), ..self }
    }

    /// Adds the row of the block.
    pub(super) fn of_row(self, row: usize) -> Self {
        Self { row: Some(row), ..self }
    }

    /// Adds what identifies the row.
    pub(super) fn of_key(self, key: impl Into<Box<str>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(block) = self.block {
            write!(f, "block {block}, ")?;
        }
        if let Some(row) = self.row {
            write!(f, "row {row}, ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}, ")?;
        }
        write!(f, "{}: expected {}, found {}", self.check, self.expected, self.found)
    }
}

/// Shortens long texts to the part where they first differ.
fn differing(expected: &str, found: &str) -> (String, String) {
    let [expected, found]: [Vec<char>; 2] = [expected, found].map(|text| text.chars().collect());
    let same =
        expected.iter().zip(&found).take_while(|(expected, found)| expected == found).count();
    let start =
        if expected.len().max(found.len()) > SHOWN_MAX { same.saturating_sub(8) } else { 0 };
    let cut = |text: &[char]| {
        let shown: String = text.iter().skip(start).take(SHOWN_MAX).collect();
        let before = if start > 0 { "…" } else { "" };
        let after = if text.len() > start + SHOWN_MAX { "…" } else { "" };
        format!("{before}{shown}{after}")
    };
    (cut(&expected), cut(&found))
}
