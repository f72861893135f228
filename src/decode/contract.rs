//! Return values of contracts, which can be any bytes: decoded by the contract's interface, or
//! rejected.

use alloy_primitives::U256;

/// Characters of a text that are kept. Honest symbols have ten, honest names forty.
const TEXT_MAX: usize = 64;

/// A reply as a number: its first word, which is how calling contracts read it: they ignore further
/// bytes and fail with fewer.
pub fn number(answer: &[u8]) -> Option<U256> {
    Some(U256::from_be_bytes(*answer.first_chunk::<32>()?))
}

/// A reply as a number of decimals, if it is one of up to 8 bits.
pub fn decimals(answer: &[u8]) -> Option<u64> {
    u8::try_from(number(answer)?).ok().map(u64::from)
}

/// A reply as text: a string, or as in older contracts one word. Cut to 64 characters; in a string,
/// invalid UTF-8 and terminal control characters become U+FFFD. `None` if it is neither, or empty.
pub fn text(answer: &[u8]) -> Option<String> {
    if let Ok(word) = <&[u8; 32]>::try_from(answer) {
        return text_of_word(word);
    }
    // No character has more than four bytes, so a truncated one is never among those kept.
    let bytes = string(answer)?;
    let bytes = &bytes[..bytes.len().min(4 * TEXT_MAX)];
    let shown = |character: char| {
        if character.is_control() { char::REPLACEMENT_CHARACTER } else { character }
    };
    let text: String = String::from_utf8_lossy(bytes).chars().take(TEXT_MAX).map(shown).collect();
    (!text.is_empty()).then_some(text)
}

/// The text of a word, which ends at its first NUL. A word that is a number, or an offset that
/// nothing follows, is no text.
fn text_of_word(word: &[u8; 32]) -> Option<String> {
    let end = word.iter().position(|byte| *byte == 0).unwrap_or(word.len());
    let text = match std::str::from_utf8(&word[..end]) {
        Ok(text) => text,
        // The last character was truncated.
        Err(error) if error.error_len().is_none() && end == word.len() => {
            std::str::from_utf8(&word[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// The bytes of the string whose offset is the first word.
fn string(answer: &[u8]) -> Option<&[u8]> {
    let at = |word: U256| usize::try_from(word).ok();
    let tail = answer.get(at(number(answer)?)?..)?;
    tail.get(32..)?.get(..at(number(tail)?)?)
}
