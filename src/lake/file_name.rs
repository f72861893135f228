//! Names of data files: the blocks, the generation, and what is in it, so that a name never stands
//! for other bytes.

use std::fmt;

/// Digits of a file's BLAKE3 in its name.
const HASH_DIGITS: usize = 16;

/// The name of a data file of a sealed range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileName {
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// The range's generation when the file was added.
    pub generation: u32,
    /// The first digits of its BLAKE3.
    pub hash: String,
    /// Counts names of the same file, from 1: a file that comes back gets a new name, because the
    /// old one may just be deleted.
    pub copy: u32,
}

impl FileName {
    /// The first name of a file with this BLAKE3.
    pub(super) fn new(first: u64, last: u64, generation: u32, blake3: &str) -> Self {
        Self { first, last, generation, hash: short(blake3).to_owned(), copy: 1 }
    }

    /// Parses a name; `None` if it is not one of ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".parquet")?.split('-');
        let first = parts.next()?.parse().ok()?;
        let last = parts.next()?.parse().ok()?;
        let generation = parts.next()?.strip_prefix('g')?.parse().ok()?;
        let hash = parts.next()?.to_owned();
        let copy = parts.next().map_or(Some(1), |copy| copy.parse().ok())?;
        let parsed = Self { first, last, generation, hash, copy };
        (parts.next().is_none() && first <= last && parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, generation, hash, copy } = self;
        write!(f, "{first:010}-{last:010}-g{generation}-{hash}")?;
        if *copy > 1 {
            write!(f, "-{copy}")?;
        }
        f.write_str(".parquet")
    }
}

/// Whether spyhop gives such names to data files of `table`: others are somebody else's.
pub(super) fn is_ours(table: &str, name: &str) -> bool {
    let is_small = || {
        let rest = name.strip_prefix(table)?.strip_prefix('-')?.strip_suffix(".parquet")?;
        let (hash, copy) = rest.split_at_checked(HASH_DIGITS)?;
        let is_copy = || copy.strip_prefix('-').is_some_and(|copy| copy.parse::<u32>().is_ok());
        Some(hash.bytes().all(|it| it.is_ascii_hexdigit()) && (copy.is_empty() || is_copy()))
    };
    FileName::parse(name).is_some() || is_small().unwrap_or(false)
}

/// The digits of a BLAKE3 that are part of a name.
pub(super) fn short(blake3: &str) -> &str {
    blake3.get(..HASH_DIGITS).unwrap_or(blake3)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::FileName;

    #[test]
    fn a_name_is_read_as_it_is_written_and_no_other_is_taken_for_one() {
        let hash = "0123456789abcdef".repeat(4);
        let mut name = FileName::new(100, 199, 2, &hash);
        assert_eq!(name.to_string(), "0000000100-0000000199-g2-0123456789abcdef.parquet");
        assert_eq!(FileName::parse(&name.to_string()), Some(name.clone()));
        name.copy = 3;
        assert_eq!(FileName::parse(&name.to_string()), Some(name));
        for other in [
            "part-00000-c000.snappy.parquet",
            "100-199-g2-0123456789abcdef.parquet",
            "0000000199-0000000100-g2-0123456789abcdef.parquet",
            "0000000100-0000000199-g2-0123456789abcdef-1.parquet",
            "0000000100-0000000199-g2.parquet",
            "0000000100-0000000199-g2-0123456789abcdef-2-3.parquet",
        ] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn files_of_others_are_not_ours() {
        let check = |name: &str, expected: bool| {
            assert_eq!(super::is_ours("labels", name), expected, "{name}");
        };
        check("0000000000-0000000099-g1-0123456789abcdef.parquet", true);
        check("labels-0123456789abcdef.parquet", true);
        check("labels-0123456789abcdef-2.parquet", true);
        for wrong in [
            "part-0.parquet",
            "0000000000-0000009999.parquet",
            "labels.parquet",
            "labels-mine.parquet",
            "labels-0123456789abcdef-x.parquet",
            "coverage-0123456789abcdef.parquet",
        ] {
            check(wrong, false);
        }
    }
}
