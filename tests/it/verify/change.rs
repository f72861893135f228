//! Changes one cell of a sealed range's file in a way that only the rows themselves can reveal.

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Int64Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use spyhop::rows::{Column, Kind, Table};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A change of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another value.
    Other,
    /// Null where there was a value.
    Null,
    /// A value where there was null.
    Value,
}

/// A table's file of a sealed range, restored on drop.
pub struct RangeFile {
    directory: PathBuf,
    pub table: &'static Table,
    file: Vec<u8>,
    manifest: Vec<u8>,
    pub rows: RecordBatch,
}

impl RangeFile {
    pub fn open(directory: &Path, table: &'static Table) -> Self {
        let path = directory.join(format!("{}.parquet", table.name));
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap())
            .unwrap()
            .build()
            .unwrap();
        let batches: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
        Self {
            directory: directory.to_owned(),
            table,
            file: fs::read(&path).unwrap(),
            manifest: fs::read(directory.join("manifest.json")).unwrap(),
            rows: concat_batches(&table.schema(), &batches).unwrap(),
        }
    }

    /// The rows for which such a change is possible, in one column.
    pub fn candidates(&self, column: &Column, change: Change) -> Vec<usize> {
        let cells = &self.rows[column.name];
        (0..cells.len()).filter(|row| cells.is_null(*row) == (change == Change::Value)).collect()
    }

    /// A text column.
    pub fn texts(&self, column: &str) -> Vec<Option<String>> {
        self.rows[column].as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
    }

    /// Writes the file without one of its rows, and a manifest that matches it.
    pub fn without(&self, row: usize) {
        let (above, below) =
            (self.rows.slice(0, row), self.rows.slice(row + 1, self.rows.num_rows() - row - 1));
        self.write_rows(&concat_batches(&self.table.schema(), &[above, below]).unwrap());
    }

    /// The block of a row, and its position among that block's rows.
    pub fn place(&self, row: usize) -> (u64, usize) {
        if self.table.name == "blocks" {
            return (self.rows["number"].as_primitive::<Int64Type>().value(row) as u64, 0);
        }
        let numbers = self.rows["block_number"].as_primitive::<Int64Type>();
        let number = numbers.value(row);
        (number as u64, (0..row).filter(|other| numbers.value(*other) == number).count())
    }

    /// Writes the file with one cell changed, and a manifest that matches it.
    pub fn write(&self, column: &Column, row: usize, change: Change) {
        let mut columns = self.rows.columns().to_vec();
        let index = self.table.columns.iter().position(|other| other.name == column.name).unwrap();
        columns[index] = changed(&columns[index], column, row, change);
        assert_ne!(&columns[index], self.rows.column(index), "{} is as it was", column.name);
        self.write_rows(&RecordBatch::try_new(self.table.schema(), columns).unwrap());
    }

    fn write_rows(&self, rows: &RecordBatch) {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
        self.put(&bytes, rows.num_rows());
    }

    /// Replaces the file by these bytes, and writes a manifest that matches them.
    fn put(&self, bytes: &[u8], rows: usize) {
        let mut manifest: Value = serde_json::from_slice(&self.manifest).unwrap();
        let entry = &mut manifest["tables"][self.table.name];
        entry["blake3"] = json!(blake3::hash(bytes).to_hex().to_string());
        entry["bytes"] = json!(bytes.len());
        entry["rows"] = json!(rows);
        fs::write(self.directory.join("manifest.json"), manifest.to_string()).unwrap();
        fs::write(self.directory.join(format!("{}.parquet", self.table.name)), bytes).unwrap();
    }
}

impl Drop for RangeFile {
    fn drop(&mut self) {
        let _ = fs::write(self.directory.join(format!("{}.parquet", self.table.name)), &self.file);
        let _ = fs::write(self.directory.join("manifest.json"), &self.manifest);
    }
}

/// The same cells except for one.
pub fn changed(cells: &ArrayRef, column: &Column, row: usize, change: Change) -> ArrayRef {
    macro_rules! numbers {
        ($kind:ty, $array:ty) => {{
            let mut values: Vec<_> = cells.as_primitive::<$kind>().iter().collect();
            values[row] = match change {
                Change::Other => values[row]
                    .map(|value| value + if column.kind == Kind::Time { 1_000_000 } else { 1 }),
                Change::Null => None,
                Change::Value => Some(1),
            };
            <$array>::from(values)
        }};
    }
    match column.kind {
        Kind::Integer => Arc::new(numbers!(Int64Type, Int64Array)),
        Kind::Time => Arc::new(numbers!(TimestampMicrosecondType, TimestampMicrosecondArray)),
        Kind::Long | Kind::Wide | Kind::Percent => Arc::new(
            numbers!(Decimal128Type, Decimal128Array).with_data_type(cells.data_type().clone()),
        ),
        Kind::Text | Kind::Key => {
            let mut values: Vec<_> =
                cells.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect();
            values[row] = match change {
                Change::Other => values[row].as_deref().map(other_text),
                Change::Null => None,
                Change::Value => Some(plausible(column.name)),
            };
            Arc::new(StringArray::from(values))
        }
        Kind::TextList => {
            let lists = cells.as_list::<i32>();
            let mut builder = ListBuilder::new(StringBuilder::new());
            for (index, list) in lists.iter().enumerate() {
                let mut list: Option<Vec<_>> = list.map(|list| {
                    list.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect()
                });
                match change {
                    Change::Other if index == row => {
                        let list = list.as_mut().unwrap();
                        *list.last_mut().unwrap() = other_text(list.last().unwrap());
                    }
                    Change::Null if index == row => list = None,
                    Change::Value if index == row => list = Some(Vec::new()),
                    _ => {}
                }
                builder.append_option(list.map(|list| list.into_iter().map(Some)));
            }
            Arc::new(builder.finish())
        }
    }
}

/// A text that differs in its last digit, or by a space.
fn other_text(text: &str) -> String {
    match text.rfind(|char: char| char.is_ascii_hexdigit()) {
        Some(at) if text.len() > 2 && !text.starts_with("erc") => {
            let digit = if &text[at..=at] == "1" { "2" } else { "1" };
            format!("{}{digit}{}", &text[..at], &text[at + 1..])
        }
        _ if text == "0x" => "0x00".to_owned(),
        // A trace address.
        _ if text.is_empty() => "0".to_owned(),
        _ => text.replace(']', " ]").replace("erc", "ERC").replace("weth", "erc20"),
    }
}

/// A plausible value of a text column.
fn plausible(column: &str) -> String {
    match column {
        "access_list" | "authorization_list" => "[]".to_owned(),
        "chain_id" => "1".to_owned(),
        column if column.ends_with("_text") => "5".to_owned(),
        column if column.ends_with("_address") => format!("0x{}", "11".repeat(20)),
        "v" | "r" | "s" => "0x1".to_owned(),
        _ => format!("0x{}", "11".repeat(32)),
    }
}
