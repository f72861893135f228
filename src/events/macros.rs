//! The macros that views decode with, in SQL that every DuckDB from 1.4 on supports. None of them
//! fails, whatever its arguments.
//!
//! A word is 64 hexadecimal digits; a shorter one, because the log ends, decodes to null. As in
//! `abi.decode`, so does a word whose padding is wrong.
//!
//! DuckDB expands a macro at every call when it checks a view, which costs milliseconds for each.
//! So views are created over stand-ins that have only the types, and the macros replace those
//! afterwards.

use alloy_primitives::U256;
use std::fmt::Write;

/// The macros that views call, by name, and their types.
const TYPES: [(&str, &str); 17] = [
    ("is_uint", "BOOLEAN"),
    ("is_int", "BOOLEAN"),
    ("address", "VARCHAR"),
    ("bool", "BOOLEAN"),
    ("bytes", "VARCHAR"),
    ("uint", "BIGINT"),
    ("int", "BIGINT"),
    ("uint_decimal", "DECIMAL(38,0)"),
    ("int_decimal", "DECIMAL(38,0)"),
    ("uint_text", "VARCHAR"),
    ("int_text", "VARCHAR"),
    ("tail", "VARCHAR"),
    ("raw", "VARCHAR"),
    ("exactly", "VARCHAR"),
    ("content", "VARCHAR"),
    ("string", "VARCHAR"),
    ("elements", "VARCHAR"),
];

/// The statements that create stand-ins for these.
pub(super) fn stand_ins() -> String {
    let mut sql = String::new();
    for (head, _) in macros() {
        if let Some((_, kind)) = TYPES.iter().find(|(name, _)| head.split('(').next() == Some(name))
        {
            let _ = writeln!(sql, "CREATE MACRO events.abi_{head} AS NULL::{kind};");
        }
    }
    sql
}

/// The statements that create every macro, replacing its stand-in if it has one.
pub(super) fn sql() -> String {
    let mut sql = String::new();
    for (head, body) in macros() {
        let _ = writeln!(sql, "CREATE OR REPLACE MACRO events.abi_{head} AS {body};");
    }
    sql
}

/// Every macro: its name with its parameters, and its body.
fn macros() -> [(&'static str, String); 24] {
    let zeros = |count| "0".repeat(count);
    let (sum_0, sum_1, sum_2) = (digits(0), digits(1), digits(2));
    [
        (
            "address(w)",
            format!(
                "CASE WHEN length(w) = 64 AND starts_with(w, '{}')
                THEN '0x' || right(w, 40) END",
                zeros(24)
            ),
        ),
        (
            "bool(w)",
            format!("CASE w WHEN '{z}0' THEN false WHEN '{z}1' THEN true END", z = zeros(63)),
        ),
        (
            "bytes(w, digits)",
            "CASE WHEN length(w) = 64 AND ltrim(substr(w, digits + 1), '0') = ''
                THEN '0x' || left(w, digits) END"
                .into(),
        ),
        ("is_uint(w, digits)", "(length(w) = 64 AND ltrim(left(w, 64 - digits), '0') = '')".into()),
        (
            "is_int(w, digits)",
            "(length(w) = 64 AND ltrim(left(w, 64 - digits),
                CASE WHEN substr(w, 65 - digits, 1) < '8' THEN '0' ELSE 'f' END) = '')"
                .into(),
        ),
        ("complement(w)", "translate(w, '0123456789abcdef', 'fedcba9876543210')".into()),
        // Up to 63 bits.
        ("low_63(w)", "('0x' || right(w, 16))::BIGINT".into()),
        (
            "uint(w, digits)",
            "CASE WHEN events.abi_is_uint(w, digits) THEN events.abi_low_63(w) END".into(),
        ),
        (
            "int(w, digits)",
            "CASE WHEN NOT events.abi_is_int(w, digits) THEN NULL
                WHEN left(w, 1) >= '8' THEN -events.abi_low_63(events.abi_complement(w)) - 1
                ELSE events.abi_low_63(w) END"
                .into(),
        ),
        // Up to 127 bits, which is more than 38 digits need.
        ("is_127(w)", format!("(starts_with(w, '{}') AND substr(w, 33, 1) < '8')", zeros(32))),
        ("low_127(w)", limbs(4..8, |limb| U256::from(1) << (32 * (7 - limb)))),
        (
            "uint_decimal(w, digits)",
            "CASE WHEN events.abi_is_uint(w, digits) AND events.abi_is_127(w)
                THEN try_cast(events.abi_low_127(w) AS DECIMAL(38,0)) END"
                .into(),
        ),
        (
            "int_decimal(w, digits)",
            "CASE WHEN NOT events.abi_is_int(w, digits) THEN NULL
                WHEN events.abi_is_127(w) THEN try_cast(events.abi_low_127(w) AS DECIMAL(38,0))
                WHEN events.abi_is_127(events.abi_complement(w))
                THEN try_cast(-events.abi_low_127(events.abi_complement(w)) - 1
                    AS DECIMAL(38,0)) END"
                .into(),
        ),
        // Any number, as text.
        (
            "digits(w, plus)",
            format!(
                "(({sum_0} + plus)::BIGNUM + (({sum_1})::VARCHAR || '{}')::BIGNUM
                + (({sum_2})::VARCHAR || '{}')::BIGNUM)::VARCHAR",
                zeros(GROUP),
                zeros(2 * GROUP)
            ),
        ),
        (
            "uint_text(w, digits)",
            "CASE WHEN events.abi_is_uint(w, digits) THEN events.abi_digits(w, 0) END".into(),
        ),
        (
            "int_text(w, digits)",
            "CASE WHEN NOT events.abi_is_int(w, digits) THEN NULL
                WHEN left(w, 1) < '8' THEN events.abi_digits(w, 0)
                ELSE '-' || events.abi_digits(events.abi_complement(w), 1) END"
                .into(),
        ),
        // A length or an offset in bytes, as a count of digits: up to 2^28 bytes, which no log has.
        (
            "size(w)",
            format!(
                "CASE WHEN length(w) = 64 AND starts_with(w, '{}')
                THEN 2 * ('0x' || right(w, 7))::BIGINT END",
                zeros(57)
            ),
        ),
        // The data at the offset in a word, counted in digits from a start; empty if that is beyond
        // the end.
        ("tail(hex, start, w)", "substr(hex, start + events.abi_size(w))".into()),
        ("length(t)", "events.abi_size(left(t, 64))".into()),
        ("raw(hex)", "CASE WHEN hex <> '' THEN '0x' || hex END".into()),
        ("exactly(hex, digits)", "CASE WHEN length(hex) = digits THEN hex END".into()),
        (
            "content(t)",
            "events.abi_exactly(substr(t, 65, events.abi_length(t)), events.abi_length(t))".into(),
        ),
        ("string(t)", "try(decode(unhex(events.abi_content(t))))".into()),
        // The elements of a list with this many words each, as one text.
        (
            "elements(t, words)",
            "CASE WHEN events.abi_length(t) * 32 * words <= length(t) - 64
                THEN substr(t, 65, events.abi_length(t) * 32 * words) END"
                .into(),
        ),
    ]
}

/// Decimal digits computed at a time: eight products of 32 bits and these are below 2^127.
const GROUP: usize = 27;

/// The digits of a word from `GROUP * group` on, before the carry: each 32 bits times that part of
/// their power of two.
fn digits(group: usize) -> String {
    let base = U256::from(10).pow(U256::from(GROUP));
    limbs(0..8, |limb| ((U256::from(1) << (32 * (7 - limb))) / base.pow(U256::from(group))) % base)
}

/// The sum of 32-bit parts of a word, the highest first, each times a factor.
fn limbs(parts: std::ops::Range<usize>, factor: impl Fn(usize) -> U256) -> String {
    let products = parts.filter_map(|limb| {
        let factor = factor(limb);
        (!factor.is_zero()).then(|| {
            format!("('0x' || substr(w, {}, 8))::BIGINT::HUGEINT * {factor}", 1 + 8 * limb)
        })
    });
    format!("({})", products.collect::<Vec<_>>().join(" + "))
}
