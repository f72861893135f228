//! Output of geth's `callTracer` for one transaction: JSON to call frames.
//!
//! Frames nest as deep as EVM calls, 1,024 levels, which is more than a recursive JSON parser
//! allows. So the text is walked once, front to back, and the frames come out flat, each after its
//! parent.
//!
//! Source: geth `eth/tracers/native/call.go`.

use alloy_primitives::{Address, Bytes, U256};
use anyhow::{Context, Result, bail, ensure};
use std::borrow::Cow;

/// One call frame.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// The operation as geth names it: `CALL`, `CREATE2`, `SELFDESTRUCT` …
    pub kind: String,
    /// The caller; for a selfdestruct the contract that is destroyed.
    pub from: Address,
    /// The callee, or the created contract; for a selfdestruct the beneficiary. None if a creation
    /// failed.
    pub to: Option<Address>,
    /// Wei sent with the call; none for `STATICCALL`.
    pub value: Option<U256>,
    /// Gas provided.
    pub gas: u64,
    /// Gas used, including the frames below.
    pub gas_used: u64,
    /// Call data, or the init code.
    pub input: Bytes,
    /// Return data.
    pub output: Option<Bytes>,
    /// Its own error, if it failed.
    pub error: Option<String>,
    /// Whether it and all frames above it succeeded: otherwise it has no effect.
    pub succeeded: bool,
    /// Its parent, as an index of the list it is in, and its position among the parent's frames,
    /// from 0.
    pub parent: Option<(usize, u32)>,
    /// Number of frames it called.
    pub subtraces: u32,
    /// Its path, if the frames between are not in the list; see [`moving`].
    pub path: Option<String>,
}

/// Maximum nesting of frames: the EVM calls 1,024 levels deep (yellow paper, section 9.1), and geth
/// also shows the call that failed for being one deeper, and a selfdestruct in the deepest, as
/// frames.
const DEPTH_MAX: usize = 1_026;

/// The path to a frame from its transaction's, as in `0,1`; empty for the transaction's own.
pub fn trace_address(frames: &[Frame], index: usize) -> String {
    if let Some(path) = &frames[index].path {
        return path.clone();
    }
    let parents = std::iter::successors(frames[index].parent, |(parent, _)| frames[*parent].parent);
    let mut path: Vec<_> = parents.map(|(_, position)| position.to_string()).collect();
    path.reverse();
    path.join(",")
}

/// The frames of one transaction, in the order they were entered.
///
/// # Errors
/// If the text is not one frame of that shape.
pub fn frames(json: &str) -> Result<Vec<Frame>> {
    let mut reader = Reader { text: json.as_bytes(), at: 0 };
    let mut frames: Vec<Frame> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    enter(&mut reader, &mut frames, &mut open)?;
    while let Some(&current) = open.last() {
        let Some(key) = reader.key()? else {
            open.pop();
            if !open.is_empty() && reader.next_item()? {
                enter(&mut reader, &mut frames, &mut open)?;
            }
            continue;
        };
        if key == "calls" {
            reader.expect(b'[')?;
            if reader.peek()? == b']' {
                reader.expect(b']')?;
            } else {
                enter(&mut reader, &mut frames, &mut open)?;
            }
        } else {
            field(&mut reader, &key, &mut frames[current])
                .with_context(|| format!("{key} of frame {current}"))?;
        }
    }
    reader.end()?;
    for index in 0..frames.len() {
        ensure!(!frames[index].kind.is_empty(), "frame {index} has no type");
        let above = frames[index].parent.is_none_or(|(parent, _)| frames[parent].succeeded);
        frames[index].succeeded = above && frames[index].error.is_none();
    }
    Ok(frames)
}

/// Kind, from, to, value and path of a frame.
type MovingFrame = (String, Address, Address, String, String);

/// Output of the tracer without input and output ([`crate::geth::Client::trace_moving`]): the
/// successful frames that move ether, or create or destroy a contract, the transaction's own first;
/// and how many bytes of input and output all frames have. No frames if the transaction failed.
pub(crate) fn moving(json: &str) -> Result<(Vec<Frame>, u64)> {
    let (bytes, frames): (u64, Option<Vec<MovingFrame>>) = serde_json::from_str(json)?;
    let frame = |(index, (kind, from, to, value, path)): (usize, MovingFrame)| {
        let parent = (index > 0).then_some((0, 0));
        let (to, value, path) = (Some(to), Some(quantity(&value)?), Some(path));
        Ok(Frame { kind, from, to, value, path, parent, succeeded: true, ..Frame::default() })
    };
    let frames = frames.unwrap_or_default().into_iter().enumerate().map(frame);
    Ok((frames.collect::<Result<_>>()?, bytes))
}

fn enter(reader: &mut Reader, frames: &mut Vec<Frame>, open: &mut Vec<usize>) -> Result<()> {
    reader.expect(b'{')?;
    ensure!(open.len() < DEPTH_MAX, "the trace is deeper than the EVM allows");
    let parent = open.last().map(|&parent| {
        frames[parent].subtraces += 1;
        (parent, frames[parent].subtraces - 1)
    });
    open.push(frames.len());
    frames.push(Frame { parent, ..Frame::default() });
    Ok(())
}

fn field(reader: &mut Reader, key: &str, frame: &mut Frame) -> Result<()> {
    match key {
        "type" => frame.kind = reader.string()?.into_owned(),
        "from" => frame.from = reader.string()?.parse()?,
        "to" => frame.to = Some(reader.string()?.parse()?),
        "value" => frame.value = Some(quantity(&reader.string()?)?),
        "gas" => frame.gas = quantity(&reader.string()?)?.try_into()?,
        "gasUsed" => frame.gas_used = quantity(&reader.string()?)?.try_into()?,
        "input" => frame.input = reader.string()?.parse()?,
        "output" => frame.output = Some(reader.string()?.parse()?),
        "error" => frame.error = Some(reader.string()?.into_owned()),
        _ => reader.skip()?,
    }
    Ok(())
}

fn quantity(text: &str) -> Result<U256> {
    let digits = text.strip_prefix("0x").context("not a quantity")?;
    Ok(U256::from_str_radix(digits, 16)?)
}

/// A position in well-formed JSON: only its shape can be wrong.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next byte that is not a space, without taking it.
    fn peek(&mut self) -> Result<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied().context("it ends too early")
    }

    fn take(&mut self) -> Result<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        let found = self.take()?;
        ensure!(
            found == byte,
            "`{}` where `{}` should be",
            found.escape_ascii(),
            byte.escape_ascii()
        );
        Ok(())
    }

    /// The key of an object's next member; none at the object's end.
    fn key(&mut self) -> Result<Option<Cow<'a, str>>> {
        match self.peek()? {
            b'}' => {
                self.at += 1;
                return Ok(None);
            }
            b',' => self.at += 1,
            _ => {}
        }
        let key = self.string()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// Whether another item of an array follows the one that just ended.
    fn next_item(&mut self) -> Result<bool> {
        match self.take()? {
            b',' => Ok(true),
            b']' => Ok(false),
            other => bail!("`{}` in a list", other.escape_ascii()),
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        ensure!(self.peek()? == b'"', "text is missing");
        let start = self.at;
        let mut end = start + 1;
        loop {
            let rest = self.text.get(end..).context("text does not end")?;
            end += memchr::memchr2(b'"', b'\\', rest).context("text does not end")?;
            if self.text[end] == b'"' {
                break;
            }
            end += 2;
        }
        self.at = end + 1;
        let inner = &self.text[start + 1..end];
        Ok(match inner.contains(&b'\\') {
            true => Cow::Owned(serde_json::from_slice(&self.text[start..=end])?),
            false => Cow::Borrowed(std::str::from_utf8(inner)?),
        })
    }

    /// Skips a value of any shape.
    fn skip(&mut self) -> Result<()> {
        let mut depth = 0u64;
        loop {
            match self.peek()? {
                b'"' => drop(self.string()?),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    // A bracket below the value's own belongs to what contains it.
                    depth = depth.checked_sub(1).context("a value is missing")?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                _ => {
                    let rest = &self.text[self.at..];
                    self.at +=
                        rest.iter().position(|byte| b",:}]".contains(byte)).unwrap_or(rest.len());
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn end(&mut self) -> Result<()> {
        let rest = &self.text[self.at..];
        ensure!(rest.iter().all(u8::is_ascii_whitespace), "{} bytes after the frame", rest.len());
        Ok(())
    }
}
