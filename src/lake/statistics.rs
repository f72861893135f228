//! What engines may know of a data file without opening it, from its Parquet footer: they leave out
//! files whose blocks or times a query does not ask for.

use crate::clock::civil;
use crate::rows::{Kind, Table};
use anyhow::{Context, Result, ensure};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::{Statistics, ValueStatistics};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::path::Path;

/// The columns of block numbers; those of times count too.
const NUMBERS: [&str; 4] = ["number", "block_number", "first_block", "last_block"];

/// The statistics of a file of a table, as Delta has them in JSON. What the footer does not say
/// exactly is left out.
///
/// # Errors
/// If the file cannot be read, or has not as many rows as `rows`.
pub(super) fn of_file(path: &Path, table: &Table, rows: u64) -> Result<String> {
    let read = || -> Result<ParquetMetaData> {
        Ok(ParquetMetaDataReader::new().parse_and_finish(&File::open(path)?)?)
    };
    let footer = read().with_context(|| format!("failed to read: `{}`", path.display()))?;
    let found = footer.file_metadata().num_rows();
    ensure!(
        u64::try_from(found) == Ok(rows),
        "`{}` has {found} rows, its manifest says {rows}",
        path.display()
    );
    Ok(of_footer(&footer, table).to_string())
}

fn of_footer(footer: &ParquetMetaData, table: &Table) -> Value {
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for column in table.columns {
        let text: fn(i64) -> Option<Value> = match column.kind {
            Kind::Integer if NUMBERS.contains(&column.name) => |value| Some(json!(value)),
            Kind::Time => |value| time(value).map(Value::String),
            _ => continue,
        };
        let Some(range) = range(footer, column.name) else { continue };
        nulls.insert(column.name.to_owned(), json!(range.nulls));
        let ends = range.ends.and_then(|(first, last)| Some((text(first)?, text(last)?)));
        if let Some((first, last)) = ends {
            least.insert(column.name.to_owned(), first);
            greatest.insert(column.name.to_owned(), last);
        }
    }
    json!({
        "numRecords": footer.file_metadata().num_rows(),
        "minValues": least,
        "maxValues": greatest,
        "nullCount": nulls,
    })
}

/// What the footer says of a column.
struct Range {
    nulls: u64,
    /// The least and the greatest value; `None` if all are null.
    ends: Option<(i64, i64)>,
}

/// The values of a column in all row groups; `None` if any of them does not say it exactly.
fn range(footer: &ParquetMetaData, column: &str) -> Option<Range> {
    let mut all = Range { nulls: 0, ends: None };
    for group in footer.row_groups() {
        let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == column)?;
        let Some(Statistics::Int64(values)) = chunk.statistics() else { return None };
        let nulls = values.null_count_opt()?;
        all.nulls += nulls;
        if u64::try_from(chunk.num_values()) == Ok(nulls) {
            continue;
        }
        let (first, last) = exact(values)?;
        let ends = all.ends.get_or_insert((first, last));
        *ends = (ends.0.min(first), ends.1.max(last));
    }
    Some(all)
}

fn exact(values: &ValueStatistics<i64>) -> Option<(i64, i64)> {
    let is_exact = values.min_is_exact() && values.max_is_exact();
    values.min_opt().zip(values.max_opt()).filter(|_| is_exact).map(|(min, max)| (*min, *max))
}

/// A time in microseconds as ISO 8601 has it; `None` if it needs more than milliseconds or four
/// digits of a year, with which engines differ.
fn time(us: i64) -> Option<String> {
    let (seconds, rest) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, of_month) = civil(day);
    let [hour, minute, second, ms] = [second / 3_600, second / 60 % 60, second % 60, rest / 1_000];
    ((1..=9_999).contains(&year) && rest % 1_000 == 0).then(|| {
        format!("{year:04}-{month:02}-{of_month:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}")
    })
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_written_without_a_zone_or_left_out() {
        let check = |us: i64, expected: Option<&str>| assert_eq!(time(us).as_deref(), expected);
        check(0, Some("1970-01-01T00:00:00.000"));
        check(1_795_784_400_000_000, Some("2026-11-27T13:00:00.000"));
        check(-1_000, Some("1969-12-31T23:59:59.999"));
        check(1, None);
        check(253_402_300_799_000_000, Some("9999-12-31T23:59:59.000"));
        check(253_402_300_800_000_000, None);
    }
}
