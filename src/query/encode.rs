//! Cells of a result as JSON and CSV. Amounts keep every digit.
//!
//! Numbers that a JSON reader may round are text: integers beyond 2^53 - 1, and all of DECIMAL,
//! HUGEINT and BIGNUM, whatever their value, so that a column has one type of cell. Times are UTC.

use crate::clock::civil;
use anyhow::{Result, bail};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use serde::Serialize;
use std::io::Write;

/// The largest integer that every JSON reader keeps exactly.
const EXACT_MAX: u64 = (1 << 53) - 1;

const DAY_S: i64 = 86_400;

/// Writes a row as a JSON array.
///
/// # Errors
/// If a column has a type that [`readable`](super::columns::readable) turns into text.
pub fn json_row(out: &mut Vec<u8>, batch: &RecordBatch, row: usize) -> Result<()> {
    out.push(b'[');
    for (index, column) in batch.columns().iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json_cell(out, column, row)?;
    }
    out.push(b']');
    Ok(())
}

/// Writes a row as a line of CSV (RFC 4180). Null is empty, and empty text is `""`.
///
/// # Errors
/// As [`json_row`].
pub fn csv_row(out: &mut Vec<u8>, batch: &RecordBatch, row: usize) -> Result<()> {
    let mut text = Vec::new();
    for (index, column) in batch.columns().iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if column.is_null(row) || *column.data_type() == DataType::Null {
            continue;
        }
        text.clear();
        match cell(column, row)? {
            Cell::Text(value) => csv_field(out, value.as_bytes()),
            Cell::Digits(value) => out.extend(value.as_bytes()),
            Cell::List(_) => {
                json_cell(&mut text, column, row)?;
                csv_field(out, &text);
            }
            Cell::Null | Cell::Number(_) | Cell::Bool(_) => json_cell(out, column, row)?,
        }
    }
    out.push(b'\n');
    Ok(())
}

/// Writes the header of a CSV.
pub fn csv_header<'a>(out: &mut Vec<u8>, names: impl Iterator<Item = &'a str>) {
    for (index, name) in names.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        csv_field(out, name.as_bytes());
    }
    out.push(b'\n');
}

fn csv_field(out: &mut Vec<u8>, field: &[u8]) {
    let quote = field.is_empty() || field.iter().any(|byte| b",\"\r\n".contains(byte));
    if !quote {
        out.extend(field);
        return;
    }
    out.push(b'"');
    for byte in field {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Writes a cell as JSON.
///
/// # Errors
/// As [`json_row`].
pub fn json_cell(out: &mut Vec<u8>, column: &dyn Array, row: usize) -> Result<()> {
    match cell(column, row)? {
        Cell::Null => out.extend(b"null"),
        Cell::Bool(value) => out.extend(value.to_string().as_bytes()),
        Cell::Number(value) => out.extend(value.as_bytes()),
        Cell::Digits(value) => write!(out, "\"{value}\"")?,
        Cell::Text(value) => serde_json::to_writer(out, &value)?,
        Cell::List(values) => {
            out.push(b'[');
            for row in 0..values.len() {
                if row > 0 {
                    out.push(b',');
                }
                json_cell(out, &values, row)?;
            }
            out.push(b']');
        }
    }
    Ok(())
}

/// A value, by how JSON writes it.
enum Cell<'a> {
    Null,
    Bool(bool),
    /// A JSON number.
    Number(String),
    /// A number as text.
    Digits(String),
    Text(std::borrow::Cow<'a, str>),
    List(ArrayRef),
}

fn cell(column: &dyn Array, row: usize) -> Result<Cell<'_>> {
    if column.is_null(row) {
        return Ok(Cell::Null);
    }
    Ok(match column.data_type() {
        DataType::Null => Cell::Null,
        DataType::Boolean => Cell::Bool(column.as_boolean().value(row)),
        DataType::Int8 => signed(column.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => signed(column.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => signed(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => signed(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => unsigned(column.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => unsigned(column.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => unsigned(column.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => unsigned(column.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, scale) => {
            Cell::Digits(decimal(column.as_primitive::<Decimal128Type>().value(row), *scale))
        }
        DataType::Utf8 => Cell::Text(column.as_string::<i32>().value(row).into()),
        DataType::LargeUtf8 => Cell::Text(column.as_string::<i64>().value(row).into()),
        DataType::Utf8View => Cell::Text(column.as_string_view().value(row).into()),
        DataType::Binary => bytes(column.as_binary::<i32>().value(row)),
        DataType::LargeBinary => bytes(column.as_binary::<i64>().value(row)),
        DataType::BinaryView => bytes(column.as_binary_view().value(row)),
        DataType::Date32 => {
            let day = column.as_primitive::<Date32Type>().value(row);
            Cell::Text(date(day.into()).into())
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let time = column.as_primitive::<Time64MicrosecondType>().value(row);
            Cell::Text(time_of_day(time.into(), TimeUnit::Microsecond).into())
        }
        DataType::Timestamp(unit, _) => {
            Cell::Text(instant(timestamp(column, *unit, row), *unit).into())
        }
        DataType::List(_) => Cell::List(column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Cell::List(column.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => Cell::List(column.as_fixed_size_list().value(row)),
        other => bail!("a column of type {other} cannot be shown: cast it to VARCHAR"),
    })
}

fn signed(value: i64) -> Cell<'static> {
    let text = value.to_string();
    if value.unsigned_abs() <= EXACT_MAX { Cell::Number(text) } else { Cell::Digits(text) }
}

fn unsigned(value: u64) -> Cell<'static> {
    let text = value.to_string();
    if value <= EXACT_MAX { Cell::Number(text) } else { Cell::Digits(text) }
}

/// JSON has no infinity and no NaN: these are text.
fn float(value: impl Into<f64> + Serialize + Copy) -> Cell<'static> {
    let wide: f64 = value.into();
    if wide.is_finite() {
        Cell::Number(serde_json::to_string(&value).expect("a finite number is JSON"))
    } else if wide.is_nan() {
        Cell::Text("NaN".into())
    } else {
        Cell::Text(if wide > 0.0 { "Infinity" } else { "-Infinity" }.into())
    }
}

fn bytes(value: &[u8]) -> Cell<'static> {
    Cell::Text(const_hex::encode_prefixed(value).into())
}

/// The digits of a decimal. A HUGEINT is one without a scale, and may have 39 digits.
fn decimal(value: i128, scale: i8) -> String {
    let scale = usize::try_from(scale).unwrap_or(0);
    if scale == 0 {
        return value.to_string();
    }
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if value < 0 { "-" } else { "" })
}

fn timestamp(column: &dyn Array, unit: TimeUnit, row: usize) -> i64 {
    match unit {
        TimeUnit::Second => column.as_primitive::<TimestampSecondType>().value(row),
        TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().value(row),
        TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().value(row),
    }
}

/// A time since 1970 as `2026-11-27T13:00:00Z`, with the fraction if that is not zero.
pub fn instant(value: i64, unit: TimeUnit) -> String {
    match value {
        i64::MAX => return "infinity".to_owned(),
        value if value == -i64::MAX => return "-infinity".to_owned(),
        _ => {}
    }
    let day = i128::from(DAY_S) * i128::from(per_second(unit));
    let (days, rest) = (i128::from(value).div_euclid(day), i128::from(value).rem_euclid(day));
    let days = i64::try_from(days).expect("a quotient of an i64");
    format!("{}T{}Z", date(days), time_of_day(rest, unit))
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

fn time_of_day(value: i128, unit: TimeUnit) -> String {
    let per_second = i128::from(per_second(unit));
    let (seconds, fraction) = (value / per_second, value % per_second);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{hours:02}:{minutes:02}:{seconds:02}");
    if fraction != 0 {
        let width = per_second.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        text = format!("{text}.{}", digits.trim_end_matches('0'));
    }
    text
}

/// A day since 1970 in the Gregorian calendar.
fn date(day: i64) -> String {
    let (year, month, day) = civil(day);
    let sign = if year < 0 { "-" } else { "" };
    format!("{sign}{:04}-{month:02}-{day:02}", year.abs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use duckdb::Connection;

    /// The first row of a query, as JSON and as CSV.
    fn shown(sql: &str) -> (String, String) {
        let connection = Connection::open_in_memory().unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let batch = statement.stream_arrow([]).unwrap().next().unwrap().unwrap();
        let (mut json, mut csv) = (Vec::new(), Vec::new());
        json_row(&mut json, &batch, 0).unwrap();
        csv_row(&mut csv, &batch, 0).unwrap();
        (String::from_utf8(json).unwrap(), String::from_utf8(csv).unwrap())
    }

    #[test]
    fn cells_follow_the_rules_of_the_api() {
        let check = |sql: &str, json: &str, csv: &str| {
            let expected = (format!("[{json}]"), format!("{csv}\n"));
            assert_eq!(shown(&format!("SELECT {sql}")), expected, "{sql}");
        };
        check("NULL", "null", "");
        check("true", "true", "true");
        check("-5::TINYINT", "-5", "-5");
        check("9007199254740991", "9007199254740991", "9007199254740991");
        check("9007199254740992", "\"9007199254740992\"", "9007199254740992");
        check("-9007199254740991", "-9007199254740991", "-9007199254740991");
        check("(-9223372036854775808)::BIGINT", "\"-9223372036854775808\"", "-9223372036854775808");
        check("18446744073709551615::UBIGINT", "\"18446744073709551615\"", "18446744073709551615");
        let most = i128::MAX;
        check(&format!("{most}::HUGEINT"), &format!("\"{most}\""), &most.to_string());
        check(&format!("(-{most})::HUGEINT"), &format!("\"-{most}\""), &format!("-{most}"));
        check("1::HUGEINT", "\"1\"", "1");
        check("1.50::DECIMAL(9,2)", "\"1.50\"", "1.50");
        check("-0.05::DECIMAL(38,2)", "\"-0.05\"", "-0.05");
        check("7::DECIMAL(4,0)", "\"7\"", "7");
        check("0.1::DOUBLE", "0.1", "0.1");
        check("0.1::FLOAT", "0.1", "0.1");
        check("1e300::DOUBLE", "1e+300", "1e+300");
        check("'nan'::DOUBLE", "\"NaN\"", "NaN");
        check("'-inf'::FLOAT", "\"-Infinity\"", "-Infinity");
        check("'a\"b' || chr(10)", "\"a\\\"b\\n\"", "\"a\"\"b\n\"");
        check("''", "\"\"", "\"\"");
        check("'x,y'", "\"x,y\"", "\"x,y\"");
        check("'🐋'", "\"🐋\"", "🐋");
        check("'\\xAB\\x00'::BLOB", "\"0xab00\"", "0xab00");
        check("[1, NULL, 3]", "[1,null,3]", "\"[1,null,3]\"");
        check("[[1.5::DECIMAL(3,1)], []]", "[[\"1.5\"],[]]", "\"[[\"\"1.5\"\"],[]]\"");
        check("1, 'b', NULL", "1,\"b\",null", "1,b,");
    }

    #[test]
    fn times_are_in_utc_and_have_a_fraction_only_if_it_is_not_zero() {
        let check = |sql: &str, expected: &str| {
            assert_eq!(shown(&format!("SELECT {sql}")).0, format!("[\"{expected}\"]"), "{sql}");
        };
        check("TIMESTAMP '2026-11-27 13:00:00'", "2026-11-27T13:00:00Z");
        check("TIMESTAMP '2026-11-27 13:00:00.5'", "2026-11-27T13:00:00.5Z");
        check("TIMESTAMP '1969-12-31 23:59:59.000001'", "1969-12-31T23:59:59.000001Z");
        check("TIMESTAMP_NS '2000-02-29 00:00:00.000000001'", "2000-02-29T00:00:00.000000001Z");
        check("TIMESTAMP_S '2100-03-01 00:00:00'", "2100-03-01T00:00:00Z");
        check("TIMESTAMP_MS '1600-02-29 12:00:00.25'", "1600-02-29T12:00:00.25Z");
        check("TIMESTAMP '294246-12-31 00:00:00'", "294246-12-31T00:00:00Z");
        check("TIMESTAMP 'infinity'", "infinity");
        check("TIMESTAMP '-infinity'", "-infinity");
        check("DATE '2024-02-29'", "2024-02-29");
        check("DATE '0001-01-01'", "0001-01-01");
        check("DATE '0001-01-01' - 1", "0000-12-31");
        check("TIME '01:02:03.45'", "01:02:03.45");
    }

    #[test]
    fn a_header_quotes_what_it_must() {
        let mut out = Vec::new();
        csv_header(&mut out, ["a", "b,c", "", "say \"hi\""].into_iter());
        assert_eq!(String::from_utf8(out).unwrap(), "a,\"b,c\",\"\",\"say \"\"hi\"\"\"\n");
    }
}
