/**
 * Untrusted text, made safe to show: token names, labels, errors. Its author cannot hide characters
 * or change the direction of the text around it. Stored data, JSON and CSV are unchanged. The set
 * is that of `src/text.rs`.
 */

const WRITTEN_OUT = new RegExp(
  '[\\p{Cc}\\p{Cs}\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff' +
    '\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}]',
  'gu',
);
const NAMED = { '\t': '\\t', '\n': '\\n', '\r': '\\r' };

/** The text on one line; what is invisible or changes the text around it becomes `\u{202e}`. */
export function shown(text) {
  return String(text).replace(
    WRITTEN_OUT,
    (char) => NAMED[char] ?? `\\u{${char.codePointAt(0).toString(16)}}`,
  );
}

/** Text of several lines, such as SQL or an error that points below what it quotes. */
export function lines(text) {
  return String(text).split('\n').map(shown).join('\n');
}

/** `0x1234…abcd`: an address or hash, short enough for a table. */
export function shortened(hex) {
  return hex.length > 14 ? `${hex.slice(0, 6)}…${hex.slice(-4)}` : hex;
}

/** `1 block`, `2 blocks`. */
export function counted(count, noun) {
  return `${String(count).replace(/\B(?=(\d{3})+(?!\d))/g, ',')} ${noun}${count === 1 ? '' : 's'}`;
}
