//! Exact amounts in SQL. They have two columns: a `DECIMAL(38,0)`, and text for values that do not
//! fit it.

/// Comment of an amount's second column.
pub(super) const FITS_NOT: &str = "The exact value if it has more than 38 digits, else null.";

/// The exact sum of an amount in two columns, as a `BIGNUM`. These are slow, so values below 10^27,
/// which are nearly all, are summed as integers, which is safe for 10^11 rows.
pub(super) fn sum(value: &str) -> String {
    let small = format!("abs({value}) < 1{}", "0".repeat(27));
    format!(
        "(coalesce(sum(CASE WHEN {small} THEN {value} END), 0)::HUGEINT::BIGNUM \
         + coalesce(sum(CASE WHEN {small} THEN NULL \
         WHEN {value} IS NOT NULL THEN {value}::HUGEINT::BIGNUM \
         ELSE {value}_text::BIGNUM END), 0::BIGNUM))"
    )
}

/// A `BIGNUM` as the two columns of an amount.
pub(super) fn split(bignum: &str, name: &str) -> String {
    let narrow = format!("try_cast({bignum}::VARCHAR AS DECIMAL(38,0))");
    format!(
        "{narrow} AS {name}, CASE WHEN {narrow} IS NULL THEN {bignum}::VARCHAR END AS {name}_text"
    )
}
