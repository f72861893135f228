//! What a pool and its worker say to each other, over two pipes: frames of a kind, a length and
//! that many bytes. The pool trusts no length that it reads.

use super::Format;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Bytes of data in one frame, at most.
pub(super) const DATA_BYTES_MAX: usize = 64 << 10;

/// Bytes of any frame, at most; a request contains the statement.
pub(super) const FRAME_BYTES_MAX: usize = 2 << 20;

/// Bytes before a frame's content.
pub(super) const HEAD_BYTES: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Kind {
    /// From the worker, once: it is prepared and waits for its query.
    Ready = b'r',
    /// To the worker, once: a [`Request`].
    Request = b'q',
    /// From the worker: the next bytes of the answer.
    Data = b'd',
    /// From the worker, last: the [`End`] of a complete answer.
    End = b'e',
    /// From the worker, last: a [`Complaint`].
    Complaint = b'x',
}

/// A query and its limits.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Request {
    pub sql: String,
    pub format: Format,
    pub rows_max: u64,
    pub bytes_max: usize,
    pub deadline_ms: u64,
}

/// What is known of an answer once it is complete.
#[derive(Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct End {
    pub rows: u64,
    pub truncated: bool,
}

/// Why there is no answer.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Complaint {
    /// The statement is not one that is run.
    Refused(String),
    /// DuckDB's error.
    Failed(String),
    /// There is no published file yet.
    Unpublished(String),
    /// The worker could not be set up: no fault of the statement.
    Broken(String),
}

/// A frame as bytes.
pub(super) fn encode(kind: Kind, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("no frame is as long as 4 GiB");
    [&[kind as u8], &length.to_le_bytes()[..], content].concat()
}

/// The kind of a frame and the length of its content, from its first bytes.
///
/// # Errors
/// If it is of no known kind, or too long.
pub(super) fn decode(head: [u8; HEAD_BYTES]) -> Result<(Kind, usize)> {
    let [kind, length @ ..] = head;
    let known = [Kind::Ready, Kind::Request, Kind::Data, Kind::End, Kind::Complaint];
    let Some(kind) = known.into_iter().find(|known| *known as u8 == kind) else {
        bail!("a frame of unknown kind {kind}");
    };
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        bail!("a frame of {length} bytes");
    }
    Ok((kind, length))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_its_kind_and_length() {
        let frame = encode(Kind::Data, b"abc");
        assert_eq!(frame, b"d\x03\0\0\0abc");
        assert_eq!(decode(frame[..HEAD_BYTES].try_into().unwrap()).unwrap(), (Kind::Data, 3));
    }

    #[test]
    fn a_frame_of_unknown_kind_or_length_is_an_error() {
        assert!(decode(*b"z\x03\0\0\0").is_err());
        assert!(decode(*b"d\xff\xff\xff\xff").is_err());
        assert!(decode([b'd', 0, 0, 0x20, 0]).is_ok());
        assert!(decode([b'd', 1, 0, 0x20, 0]).is_err());
    }
}
