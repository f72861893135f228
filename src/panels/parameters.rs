//! Parameters of panels: what each takes, and its values, validated before any SQL is written.

use super::Cursor;
use std::collections::BTreeMap;
use std::fmt::Display;

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    /// As in the URL.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Its value if it is not given; without one it is required, unless it is optional.
    pub default: Option<&'static str>,
    /// Whether it may be left out without a default.
    pub is_optional: bool,
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `ETH`, or a token's contract.
    Asset,
    /// An address.
    Address,
    /// A hash.
    Hash,
    /// The number or the hash of a block.
    Block,
    /// Where an earlier answer was cut.
    Cursor,
    /// A number from the first to the last.
    Integer(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text that is not empty.
    Text,
}

/// The most characters of a text.
const TEXT_MAX: usize = 100;

/// No chain has a block with a larger number.
const BLOCK_MAX: u64 = 1 << 48;

impl Parameter {
    /// A required parameter.
    pub(super) const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, default: None, is_optional: false }
    }

    /// One that may be left out.
    pub(super) const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, default: None, is_optional: true }
    }

    /// One with a default.
    pub(super) const fn of(name: &'static str, kind: Kind, default: &'static str) -> Self {
        Self { name, kind, default: Some(default), is_optional: false }
    }

    /// How many rows at most.
    pub(super) const fn limit(default: &'static str) -> Self {
        Self::of("limit", Kind::Integer(1, 1000), default)
    }

    /// Which asset: ether if none is given.
    pub(super) const ASSET: Self = Self::of("asset", Kind::Asset, "ETH");

    /// Only blocks before this one.
    pub(super) const BEFORE_BLOCK: Self =
        Self::optional("before_block", Kind::Integer(0, BLOCK_MAX));

    /// Only what comes after an earlier answer.
    pub(super) const BEFORE: Self = Self::optional("before", Kind::Cursor);

    /// The type's name in the API.
    pub(crate) fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Asset => "asset",
            Kind::Address => "address",
            Kind::Hash => "hash",
            Kind::Block => "block",
            Kind::Cursor => "cursor",
            Kind::Integer(..) => "integer",
            Kind::Choice(_) => "choice",
            Kind::Text => "text",
        }
    }

    /// The validated value, as SQL and panels use it: hexadecimal digits in lower case.
    fn read(&self, value: &str) -> Result<String, String> {
        let refuse =
            |wanted: &dyn Display| Err(format!("parameter `{}`: expected {wanted}", self.name));
        let is_hex = |digits| is_hex(value, digits);
        match self.kind {
            Kind::Asset if value.eq_ignore_ascii_case("eth") => Ok("ETH".to_owned()),
            Kind::Asset if is_hex(40) => Ok(value.to_lowercase()),
            Kind::Asset => refuse(&"ETH, or the address of a token's contract, 0x and 40 digits"),
            Kind::Address if is_hex(40) => Ok(value.to_lowercase()),
            Kind::Address => refuse(&"an address, 0x and 40 hexadecimal digits"),
            Kind::Hash if is_hex(64) => Ok(value.to_lowercase()),
            Kind::Hash => refuse(&"a hash, 0x and 64 hexadecimal digits"),
            Kind::Block if is_hex(64) => Ok(value.to_lowercase()),
            Kind::Block => number(value, 0, BLOCK_MAX)
                .map_or_else(|| refuse(&"the number of a block, or its hash"), Ok),
            Kind::Cursor => match value.parse::<Cursor>() {
                Ok(cursor) => Ok(cursor.to_string()),
                Err(()) => refuse(&"what an earlier answer gave as `next`"),
            },
            Kind::Integer(least, most) => number(value, least, most)
                .map_or_else(|| refuse(&format_args!("a number from {least} to {most}")), Ok),
            Kind::Choice(words) if words.contains(&value) => Ok(value.to_owned()),
            Kind::Choice(words) => refuse(&format_args!("one of {}", words.join(", "))),
            Kind::Text => text(value).map_or_else(
                || refuse(&format_args!("a text of 1 to {TEXT_MAX} printable characters")),
                Ok,
            ),
        }
    }
}

/// Whether a text is `0x` and so many hexadecimal digits.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.strip_prefix("0x")
        .is_some_and(|hex| hex.len() == digits && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A number within bounds, in its shortest form.
fn number(value: &str, least: u64, most: u64) -> Option<String> {
    let is_plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = value.parse().ok().filter(|_| is_plain)?;
    (least..=most).contains(&number).then(|| number.to_string())
}

fn text(value: &str) -> Option<String> {
    let text = value.trim();
    let fits = (1..=TEXT_MAX).contains(&text.chars().count());
    (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// The values of a panel's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Validates the parameters of a request.
    ///
    /// # Errors
    /// What is wrong, in words for whoever sent it.
    pub(crate) fn read(
        parameters: &'static [Parameter],
        given: &[(String, String)],
    ) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for (name, value) in given {
            let Some(parameter) = parameters.iter().find(|parameter| parameter.name == name) else {
                let known: Vec<_> = parameters.iter().map(|parameter| parameter.name).collect();
                return Err(match known.as_slice() {
                    [] => format!("there is no parameter `{name}`: this panel takes none"),
                    known => format!(
                        "there is no parameter `{name}`: this panel takes {}",
                        known.join(", ")
                    ),
                });
            };
            if values.insert(parameter.name, parameter.read(value)?).is_some() {
                return Err(format!("parameter `{name}` is given twice"));
            }
        }
        for Parameter { name, default, is_optional, .. } in parameters {
            match default {
                _ if values.contains_key(name) || *is_optional => {}
                Some(default) => drop(values.insert(name, (*default).to_owned())),
                None => return Err(format!("parameter `{name}` is missing")),
            }
        }
        Ok(Self(values))
    }

    /// The value of a parameter that is required or has a default.
    pub(super) fn text(&self, name: &str) -> &str {
        self.get(name).expect("a panel's parameter without a value is optional")
    }

    /// The number of a parameter that has one.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Where to go on.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.get(Parameter::BEFORE.name)?.parse().ok()
    }

    /// The value of a parameter, if there is one.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The `limit`.
    pub(super) fn limit(&self) -> u64 {
        self.number("limit").unwrap_or(ROWS_MAX)
    }
}

/// The most rows that any panel gives.
pub(crate) const ROWS_MAX: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Parameter] = &[
        Parameter::ASSET,
        Parameter::limit("20"),
        Parameter::BEFORE_BLOCK,
        Parameter::BEFORE,
        Parameter::optional("block", Kind::Block),
        Parameter::optional("address", Kind::Address),
        Parameter::optional("q", Kind::Text),
        Parameter::optional("period", Kind::Choice(&["1h", "24h"])),
    ];

    fn check(query: &[(&str, &str)], wanted: Result<&[(&'static str, &str)], &str>) {
        let given: Vec<_> =
            query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let wanted = wanted.map_err(str::to_owned).map(|pairs| {
            let mut values: BTreeMap<_, _> =
                [("asset", "ETH".to_owned()), ("limit", "20".to_owned())].into();
            values.extend(pairs.iter().map(|(name, value)| (*name, (*value).to_owned())));
            Values(values)
        });
        assert_eq!(Values::read(ALL, &given), wanted, "{query:?}");
    }

    #[test]
    fn values_are_validated_and_put_in_one_form() {
        let address = format!("0x{}", "aB".repeat(20));
        let lower = address.to_lowercase();
        check(&[], Ok(&[]));
        check(&[("asset", "eth"), ("limit", "007")], Ok(&[("limit", "7")]));
        check(&[("asset", &address)], Ok(&[("asset", &lower)]));
        check(&[("q", " O'Hara ")], Ok(&[("q", "O'Hara")]));
        check(&[("before_block", "0")], Ok(&[("before_block", "0")]));
        check(&[("before", "07-ether-2-0")], Ok(&[("before", "7-ether-2-0")]));
        let cursor = "parameter `before`: expected what an earlier answer gave as `next`";
        check(&[("before", "7")], Err(cursor));
        let number = "parameter `limit`: expected a number from 1 to 1000";
        for limit in ["0", "1001", "-1", "+1", "1.5", "", "1 OR 1=1", "18446744073709551616"] {
            check(&[("limit", limit)], Err(number));
        }
        let asset = "parameter `asset`: expected ETH, or the address of a token's contract, \
                     0x and 40 digits";
        for value in ["", "0x", "ETH'--", &lower[..41], &format!("{lower}0"), &lower[2..]] {
            check(&[("asset", value)], Err(asset));
        }
        check(&[("period", "2h")], Err("parameter `period`: expected one of 1h, 24h"));
        check(&[("limit", "1"), ("limit", "2")], Err("parameter `limit` is given twice"));
        let text = "parameter `q`: expected a text of 1 to 100 printable characters";
        for value in ["", "  ", "a\0b", "a\nb", &"x".repeat(101)] {
            check(&[("q", value)], Err(text));
        }
        assert!(Values::read(ALL, &[("x".into(), "1".into())]).is_err());
        assert!(Values::read(&[], &[("x".into(), "1".into())]).is_err());
        let required = &const { [Parameter::required("hash", Kind::Hash)] };
        assert_eq!(Values::read(required, &[]), Err("parameter `hash` is missing".to_owned()));
    }
}
