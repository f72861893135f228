//! Mutations of an input.

use crate::rig::random::Random;

/// Boundary values of bytes in RLP, numbers and text.
const BYTES: [u8; 20] = [
    0, 1, 0x7f, 0x80, 0x81, 0xb7, 0xb8, 0xbf, 0xc0, 0xc1, 0xf7, 0xf8, 0xff, b'"', b'{', b'[', b',',
    b'\n', b'-', b'\\',
];

/// Text that parsers may trip over.
const TEXTS: [&str; 22] = [
    "null",
    "0x",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1e999",
    "[[[[[[[[",
    "{\"a\":",
    "\"\\ud800\"",
    "\\u0000",
    "\u{202e}",
    "\u{1b}]0;x\u{7}",
    "\"",
    "'; DROP TABLE blocks; --",
    "uint256",
    "tuple",
    "[18446744073709551615]",
    "0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "\r\n",
    "{}",
    "true",
];

/// An input made from one or two of these by a few mutations.
pub fn mutate(kept: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let pick =
        |random: &mut Random| kept[random.within(0..=kept.len() as u64 - 1) as usize].clone();
    let mut bytes = pick(random);
    // Often one, seldom many.
    let changes = 1 + random.next().trailing_zeros().min(12);
    for _ in 0..changes {
        let at = random.within(0..=bytes.len() as u64) as usize;
        let length = (1 << random.within(0..=10)).min(bytes.len() - at);
        let end = at + random.within(0..=length as u64) as usize;
        match random.within(0..=10) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.within(0..=7),
            2 | 3 if at < bytes.len() => {
                bytes[at] = BYTES[random.within(0..=BYTES.len() as u64 - 1) as usize]
            }
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            6 => {
                let text = TEXTS[random.within(0..=TEXTS.len() as u64 - 1) as usize];
                bytes.splice(at..end.min(at + 12), text.bytes());
            }
            7 => {
                // A boundary value of some width, in either byte order.
                let width = 1 << random.within(0..=3);
                let value = [0, 1, u64::MAX, u64::MAX >> 1, 1 << 32, random.next()]
                    [random.within(0..=5) as usize];
                let number = if random.within(0..=1) == 0 {
                    value.to_be_bytes()
                } else {
                    value.to_le_bytes()
                };
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, number[..width].iter().copied());
            }
            8 => {
                let other = pick(random);
                let from = random.within(0..=other.len() as u64) as usize;
                let to = (from + length.max(16)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            9 if changes == 1 => bytes.truncate(at),
            _ => {
                let byte = random.next() as u8;
                bytes.splice(at..at, std::iter::repeat_n(byte, 1 + random.within(0..=8) as usize));
            }
        }
        // They must not grow without limit.
        bytes.truncate(1 << 20);
    }
    bytes
}
