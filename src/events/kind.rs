//! The types of an ABI.

use alloy_json_abi::Param;
use alloy_json_abi::parser::TypeSpecifier;
use anyhow::{Context, Result, ensure};

/// Words that the static part of an event may take: a mebibyte of them is more than a log has.
pub const WORDS_MAX: u64 = 1 << 20;

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What fits one word.
    Word(Word),
    /// `bytes`.
    Bytes,
    /// `string`.
    Text,
    /// `T[]`, or `T[count]`.
    List(Box<Kind>, Option<u64>),
    /// A tuple, with the names of its parts; empty where they have none.
    Tuple(Vec<(String, Kind)>),
}

/// A type of one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `address`.
    Address,
    /// `bool`.
    Bool,
    /// `bytesN`: N.
    Bytes(u32),
    /// `uintN`: N.
    Uint(u32),
    /// `intN`: N.
    Int(u32),
}

impl Kind {
    /// The type that an ABI names, with the parts of its tuple.
    ///
    /// # Errors
    /// Where it names none.
    pub fn parse(name: &str, components: &[Param]) -> Result<Self> {
        let specifier = TypeSpecifier::parse(name).map_err(|error| anyhow::anyhow!("type `{name}`: {error}"))?;
        let mut kind = match specifier.stem.span() {
            "bytes" => Self::Bytes,
            "string" => Self::Text,
            "tuple" => {
                let parts =
                    components.iter().map(|part| Ok((part.name.clone(), Self::parse(&part.ty, &part.components)?)));
                let parts = parts.collect::<Result<Vec<_>>>()?;
                ensure!(sum(parts.iter().map(|(_, kind)| kind)) <= WORDS_MAX, "type `{name}` is too large");
                Self::Tuple(parts)
            }
            stem => Self::Word(Word::parse(stem).with_context(|| format!("there is no type `{name}`"))?),
        };
        for count in specifier.sizes {
            kind = Self::List(Box::new(kind), count.map(|count| count.get() as u64));
        }
        ensure!(kind.words() <= WORDS_MAX, "type `{name}` is too large");
        Ok(kind)
    }

    /// Whether its place says only where it is.
    pub fn is_dynamic(&self) -> bool {
        match self {
            Self::Word(_) => false,
            Self::Bytes | Self::Text | Self::List(_, None) => true,
            Self::List(element, Some(_)) => element.is_dynamic(),
            Self::Tuple(parts) => parts.iter().any(|(_, kind)| kind.is_dynamic()),
        }
    }

    /// Words that it takes in its place.
    pub fn words(&self) -> u64 {
        match self {
            _ if self.is_dynamic() => 1,
            Self::List(element, Some(count)) => element.words().saturating_mul(*count),
            Self::Tuple(parts) => sum(parts.iter().map(|(_, kind)| kind)),
            _ => 1,
        }
    }
}

/// Words that these take in their places, side by side.
fn sum<'a>(kinds: impl Iterator<Item = &'a Kind>) -> u64 {
    kinds.map(Kind::words).fold(0, u64::saturating_add)
}

impl Word {
    fn parse(name: &str) -> Option<Self> {
        let size = |prefix: &str| name.strip_prefix(prefix)?.parse::<u32>().ok();
        let bits = |size: u32| (8..=256).contains(&size) && size.is_multiple_of(8);
        Some(match name {
            "address" => Self::Address,
            "bool" => Self::Bool,
            // An address and a selector.
            "function" => Self::Bytes(24),
            _ => match (size("uint"), size("int"), size("bytes")) {
                (Some(size), ..) if bits(size) => Self::Uint(size),
                (_, Some(size), _) if bits(size) => Self::Int(size),
                (.., Some(size @ 1..=32)) => Self::Bytes(size),
                _ => return None,
            },
        })
    }
}
