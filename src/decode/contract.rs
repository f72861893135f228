//! What contracts answer when they are asked: any bytes at all, read as the contract's interface says or not at all.

use alloy_primitives::U256;

/// Characters of a text that are kept. Honest symbols have ten, honest names forty.
const TEXT_MAX: usize = 64;

/// The number that an answer is: its first word, as a contract that calls another reads it, which is content with more and
/// fails with less.
pub fn number(answer: &[u8]) -> Option<U256> {
    Some(U256::from_be_bytes(*answer.first_chunk::<32>()?))
}

/// The number of decimals that an answer is, where it is one of up to 8 bits.
pub fn decimals(answer: &[u8]) -> Option<u64> {
    u8::try_from(number(answer)?).ok().map(u64::from)
}

/// The text that an answer is: a string, or as in older contracts one word that ends in zeros. Cut to 64 characters; what is no
/// UTF-8, and characters that control terminals, become U+FFFD. `None` where it is neither, or empty.
pub fn text(answer: &[u8]) -> Option<String> {
    let bytes = match answer.len() {
        32 => &answer[..answer.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)],
        _ => string(answer)?,
    };
    // No character has more than four bytes, so that a cut one is never among those kept.
    let bytes = &bytes[..bytes.len().min(4 * TEXT_MAX)];
    let shown = |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
    let text: String = String::from_utf8_lossy(bytes).chars().take(TEXT_MAX).map(shown).collect();
    (!text.is_empty()).then_some(text)
}

/// The bytes of the string whose offset is the first word.
fn string(answer: &[u8]) -> Option<&[u8]> {
    let at = |word: U256| usize::try_from(word).ok();
    let tail = answer.get(at(number(answer)?)?..)?;
    tail.get(32..)?.get(..at(number(tail)?)?)
}
