//! `AT TIME ZONE`, and arithmetic with `TIMESTAMP WITH TIME ZONE`, as in DuckDB with its extension
//! `icu` in a session whose time zone is UTC.
//!
//! The DuckDB compiled in here has no `icu`. The rules of the zones are those of the IANA database
//! in the crate `jiff`.

use anyhow::{Context, Result, anyhow, bail};
use duckdb::Connection;
use duckdb::core::LogicalTypeId::{Interval, Timestamp as Local, TimestampTZ as Instant, Varchar};
use duckdb::core::{DataChunkHandle, LogicalTypeHandle, LogicalTypeId};
use duckdb::ffi::{duckdb_interval, duckdb_string_t};
use duckdb::types::DuckString;
use duckdb::vscalar::{ScalarFunctionSignature, VScalar};
use duckdb::vtab::arrow::WritableVector;
use jiff::tz::{Disambiguation, TimeZone};
use jiff::{Span, Timestamp};
use std::collections::HashMap;
use std::error::Error;

const DAY_US: i64 = 86_400_000_000;

/// Adds the functions, to those that DuckDB has under the same names.
pub(super) fn add_to(connection: &Connection) -> duckdb::Result<()> {
    connection.register_scalar_function::<ToInstant>("timezone")?;
    connection.register_scalar_function::<ToLocal>("timezone")?;
    connection.register_scalar_function::<Later>("+")?;
    connection.register_scalar_function::<Earlier>("-")?;
    connection.register_scalar_function::<Between>("-")
}

/// `TIMESTAMP AT TIME ZONE zone`: the instant at which clocks there show a time.
struct ToInstant;

/// `TIMESTAMP WITH TIME ZONE AT TIME ZONE zone`: the time that clocks there show.
struct ToLocal;

/// `TIMESTAMP WITH TIME ZONE + INTERVAL`.
struct Later;

/// `TIMESTAMP WITH TIME ZONE - INTERVAL`.
struct Earlier;

/// `TIMESTAMP WITH TIME ZONE - TIMESTAMP WITH TIME ZONE`.
struct Between;

fn signature(from: [LogicalTypeId; 2], to: LogicalTypeId) -> Vec<ScalarFunctionSignature> {
    let from = from.map(LogicalTypeHandle::from).into();
    vec![ScalarFunctionSignature::exact(from, to.into())]
}

impl VScalar for ToInstant {
    type State = ();

    fn signatures() -> Vec<ScalarFunctionSignature> {
        signature([Varchar, Local], Instant)
    }

    fn invoke(
        (): &(),
        input: &mut DataChunkHandle,
        output: &mut dyn WritableVector,
    ) -> Result<(), Box<dyn Error>> {
        let mut zones = Zones::default();
        // SAFETY: the types are those of the signature.
        unsafe {
            each(input, output, |zone: duckdb_string_t, time: i64| {
                to_instant(zones.get(zone)?, time)
            })
        }
    }
}

impl VScalar for ToLocal {
    type State = ();

    fn signatures() -> Vec<ScalarFunctionSignature> {
        signature([Varchar, Instant], Local)
    }

    fn invoke(
        (): &(),
        input: &mut DataChunkHandle,
        output: &mut dyn WritableVector,
    ) -> Result<(), Box<dyn Error>> {
        let mut zones = Zones::default();
        // SAFETY: the types are those of the signature.
        unsafe {
            each(input, output, |zone: duckdb_string_t, time: i64| to_local(zones.get(zone)?, time))
        }
    }
}

impl VScalar for Later {
    type State = ();

    fn signatures() -> Vec<ScalarFunctionSignature> {
        let mut both = signature([Instant, Interval], Instant);
        both.extend(signature([Interval, Instant], Instant));
        both
    }

    fn invoke(
        (): &(),
        input: &mut DataChunkHandle,
        output: &mut dyn WritableVector,
    ) -> Result<(), Box<dyn Error>> {
        let is_interval_first = input.flat_vector(0).logical_type().id() == Interval;
        // SAFETY: the types are those of the signature.
        unsafe {
            if is_interval_first {
                each(input, output, |by: duckdb_interval, time: i64| moved(time, by, 1))
            } else {
                each(input, output, |time: i64, by: duckdb_interval| moved(time, by, 1))
            }
        }
    }
}

impl VScalar for Earlier {
    type State = ();

    fn signatures() -> Vec<ScalarFunctionSignature> {
        signature([Instant, Interval], Instant)
    }

    fn invoke(
        (): &(),
        input: &mut DataChunkHandle,
        output: &mut dyn WritableVector,
    ) -> Result<(), Box<dyn Error>> {
        // SAFETY: the types are those of the signature.
        unsafe { each(input, output, |time: i64, by: duckdb_interval| moved(time, by, -1)) }
    }
}

impl VScalar for Between {
    type State = ();

    fn signatures() -> Vec<ScalarFunctionSignature> {
        signature([Instant, Instant], Interval)
    }

    fn invoke(
        (): &(),
        input: &mut DataChunkHandle,
        output: &mut dyn WritableVector,
    ) -> Result<(), Box<dyn Error>> {
        let between = |end: i64, start: i64| {
            let us = end.checked_sub(start).context("the interval is out of range")?;
            let days = i32::try_from(us / DAY_US).context("the interval is out of range")?;
            Ok(duckdb_interval { months: 0, days, micros: us % DAY_US })
        };
        // SAFETY: the types are those of the signature.
        unsafe { each(input, output, between) }
    }
}

/// Computes a function of two columns, row by row; null where one of them is.
///
/// # Safety
/// The columns must have the physical types `A` and `B`, and the output `R`.
unsafe fn each<A: Copy, B: Copy, R>(
    input: &mut DataChunkHandle,
    output: &mut dyn WritableVector,
    mut function: impl FnMut(A, B) -> Result<R>,
) -> Result<(), Box<dyn Error>> {
    let rows = input.len();
    let (left, right) = (input.flat_vector(0), input.flat_vector(1));
    let mut vector = output.flat_vector();
    let out: *mut R = unsafe { vector.as_mut_ptr() };
    let (lefts, rights): (*const A, *const B) = unsafe { (left.as_mut_ptr(), right.as_mut_ptr()) };
    for row in 0..rows {
        if left.row_is_null(row as u64) || right.row_is_null(row as u64) {
            vector.set_null(row);
            continue;
        }
        // SAFETY: the vectors have so many rows.
        unsafe { out.add(row).write(function(lefts.add(row).read(), rights.add(row).read())?) };
    }
    Ok(())
}

/// The zones that a chunk of rows names.
#[derive(Default)]
struct Zones(HashMap<String, TimeZone>);

impl Zones {
    fn get(&mut self, mut name: duckdb_string_t) -> Result<&TimeZone> {
        let name = DuckString::new(&mut name).as_str().into_owned();
        if !self.0.contains_key(&name) {
            let zone = TimeZone::get(&name).map_err(|_| {
                anyhow!("no time zone `{name}`; zones have names such as `Europe/Berlin`, or `UTC`")
            })?;
            self.0.insert(name.clone(), zone);
        }
        Ok(&self.0[&name])
    }
}

/// DuckDB's `infinity` and `-infinity`.
fn is_infinite(time_us: i64) -> bool {
    time_us == i64::MAX || time_us == -i64::MAX
}

fn instant(time_us: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(time_us)
        .map_err(|_| anyhow!("a time with a time zone must be between the years -9999 and 9999"))
}

fn to_instant(zone: &TimeZone, time_us: i64) -> Result<i64> {
    if is_infinite(time_us) {
        return Ok(time_us);
    }
    let local = TimeZone::UTC.to_datetime(instant(time_us)?);
    // A time that clocks show twice is the later one, and one that they skip is as before the
    // change, as in `icu`.
    let found = zone.to_ambiguous_timestamp(local).disambiguate(Disambiguation::Later)?;
    Ok(found.as_microsecond())
}

fn to_local(zone: &TimeZone, time_us: i64) -> Result<i64> {
    if is_infinite(time_us) {
        return Ok(time_us);
    }
    let offset = zone.to_offset(instant(time_us)?);
    Ok(time_us + i64::from(offset.seconds()) * 1_000_000)
}

/// Moves a time by months, then by days, then by the rest.
fn moved(time_us: i64, by: duckdb_interval, sign: i64) -> Result<i64> {
    if is_infinite(time_us) {
        return Ok(time_us);
    }
    let months = TimeZone::UTC
        .to_datetime(instant(time_us)?)
        .checked_add(Span::new().try_months(sign * i64::from(by.months))?)?;
    let months = TimeZone::UTC.to_timestamp(months)?.as_microsecond();
    let rest = i128::from(by.days) * i128::from(DAY_US) + i128::from(by.micros);
    let moved = i64::try_from(i128::from(months) + i128::from(sign) * rest)?;
    if is_infinite(moved) {
        bail!("the time is out of range");
    }
    Ok(moved)
}
