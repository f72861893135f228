//! How rows are printed.

use super::rows::Printer;
use super::{csv, json, line, markdown, table};
use arrow::datatypes::SchemaRef;
use clap::ValueEnum;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A frame, for people; escapes control characters, and stops after 1,000 rows.
    Table,
    /// The same with a drawn frame, with numbers to the right and `NULL` for nulls.
    Box,
    /// RFC 4180, with a header.
    Csv,
    /// An array of objects.
    Json,
    /// A table for documents and issues.
    Markdown,
    /// A line for each value, for rows that are too wide.
    Line,
}

impl Format {
    /// All of them.
    pub(super) fn names() -> Vec<String> {
        let names = Self::value_variants().iter().filter_map(Self::to_possible_value);
        names.map(|name| name.get_name().to_owned()).collect()
    }

    /// Its name.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |name| name.get_name().to_owned())
    }

    pub(super) fn printer(self, schema: SchemaRef) -> Box<dyn Printer> {
        match self {
            Self::Table => Box::new(table::Table::new(schema, &table::ASCII)),
            Self::Box => Box::new(table::Table::new(schema, &table::DRAWN)),
            Self::Csv => Box::new(csv::Csv::new(schema)),
            Self::Json => Box::new(json::Json::default()),
            Self::Markdown => Box::new(markdown::Markdown::new(schema)),
            Self::Line => Box::new(line::Line::new(schema)),
        }
    }
}
