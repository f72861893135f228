//! An event.

use super::kind::{AbiType, Parameter, is_identifier};
use alloy_primitives::{B256, keccak256};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Limit on an event's parameters: the compiler's stack allows fewer.
const INPUTS_MAX: usize = 1_000;

/// An event of a contract.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub inputs: Vec<Input>,
    /// Whether its logs have no topic that identifies it.
    pub anonymous: bool,
}

/// A parameter.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// Its name; may be empty.
    pub name: String,
    /// Its type.
    pub kind: AbiType,
    /// Whether it is a topic.
    pub indexed: bool,
}

/// An event as declared in a file.
#[derive(Deserialize)]
struct Declared {
    name: String,
    inputs: Vec<Parameter>,
    anonymous: Option<bool>,
}

impl Event {
    /// Parses the item of an ABI that is an event.
    ///
    /// # Errors
    /// If it is not an event, or has invalid types.
    pub(super) fn parse(json: &str) -> Result<Self> {
        let Declared { name, inputs, anonymous } = serde_json::from_str(json)?;
        ensure!(is_identifier(&name), "`{name}` is not a valid event name");
        ensure!(inputs.len() <= INPUTS_MAX, "it has more than {INPUTS_MAX} parameters");
        let input = |(index, input): (usize, &Parameter)| {
            let kind = input.kind().with_context(|| format!("parameter {}", index + 1))?;
            Ok(Input { name: input.name()?, kind, indexed: input.indexed.unwrap_or(false) })
        };
        let inputs = inputs.iter().enumerate().map(input).collect::<Result<_>>()?;
        Ok(Self { name, inputs, anonymous: anonymous.unwrap_or(false) })
    }

    /// Its name and the canonical names of its types.
    pub(super) fn signature(&self) -> String {
        let mut signature = format!("{}(", self.name);
        for (index, input) in self.inputs.iter().enumerate() {
            if index > 0 {
                signature.push(',');
            }
            input.kind.write(&mut signature, false);
        }
        signature.push(')');
        signature
    }

    /// The topic that identifies it.
    pub(super) fn topic(&self) -> B256 {
        keccak256(self.signature())
    }

    /// Which of its parameters are topics: 1 for each that is, 0 for each that is not.
    pub(super) fn shape(&self) -> String {
        self.inputs.iter().map(|input| if input.indexed { '1' } else { '0' }).collect()
    }

    /// Its declaration in Solidity.
    pub(super) fn declaration(&self) -> String {
        let mut declaration = format!("event {}(", self.name);
        for (index, input) in self.inputs.iter().enumerate() {
            if index > 0 {
                declaration.push_str(", ");
            }
            input.kind.write(&mut declaration, true);
            if input.indexed {
                declaration.push_str(" indexed");
            }
            if !input.name.is_empty() {
                declaration.push(' ');
                declaration.push_str(&input.name);
            }
        }
        declaration.push(')');
        if self.anonymous {
            declaration.push_str(" anonymous");
        }
        declaration
    }
}
