/**
 * Amounts: decimal text in, BigInt in between, text out. Nothing passes through a floating-point
 * number, except what a chart draws.
 */

const INTEGER = /^-?\d+$/;

/** From this many whole units on, an amount is shown with an exponent. */
const HUGE = 10n ** 15n;

/** The integer that a cell holds, whether a JSON number or decimal text; null for anything else. */
export function parse(cell) {
  if (typeof cell === 'bigint') return cell;
  if (typeof cell === 'number') return Number.isSafeInteger(cell) ? BigInt(cell) : null;
  return typeof cell === 'string' && INTEGER.test(cell) ? BigInt(cell) : null;
}

/** The amount in column `name` of a row, or in `name_text` beside it if it has over 38 digits. */
export function amountOf(row, name) {
  return parse(row[name]) ?? parse(row[`${name}_text`]);
}

/** Digits in groups of three: `1,234,567`. */
export function grouped(digits) {
  return String(digits).replace(/\B(?=(\d{3})+(?!\d))/g, ',');
}

/** Every digit, with a point: `exact(1500n, 3)` is `1.5`. */
export function exact(amount, decimals) {
  const { sign, whole, fraction } = split(amount, decimals);
  return sign + whole + (fraction ? `.${fraction}` : '');
}

/** Rounded for reading: `1,234.50`, `0.000123`, `<0.000001`, `1.1579 × 10⁵⁹`. */
export function short(amount, decimals) {
  const sign = amount < 0n ? '−' : '';
  const size = amount < 0n ? -amount : amount;
  const unit = 10n ** BigInt(decimals);
  const whole = size / unit;
  if (whole >= HUGE) return sign + exponential(whole);
  const places = Math.min(decimals, whole >= 1n ? 2 : 6);
  const rounded = rounding(size, 10n ** BigInt(decimals - places));
  if (rounded === 0n && size > 0n) return `${sign}<0.${'0'.repeat(places - 1)}1`;
  const parts = split(rounded, places);
  const fraction = whole >= 1n ? parts.fraction.padEnd(places, '0') : parts.fraction;
  return sign + grouped(parts.whole) + (fraction ? `.${fraction}` : '');
}

/** As `short`, with a plus sign before what is above zero. */
export function signed(amount, decimals) {
  const text = short(amount, decimals);
  return amount > 0n && !text.startsWith('<') ? `+${text}` : text;
}

/** Near enough for a chart. */
export function approximate(amount, decimals) {
  return amount === null ? null : Number(amount) / 10 ** decimals;
}

/** A price of gas: in gwei, or in wei where gwei would show nothing. Returns `[text, unit]`. */
export function gasPrice(wei) {
  return wei !== 0n && wei < 1000n && wei > -1000n ? [String(wei), 'wei'] : [short(wei, 9), 'gwei'];
}

function split(amount, decimals) {
  const sign = amount < 0n ? '-' : '';
  const digits = String(amount < 0n ? -amount : amount).padStart(decimals + 1, '0');
  const point = digits.length - decimals;
  return {
    sign,
    whole: digits.slice(0, point),
    fraction: digits.slice(point).replace(/0+$/, ''),
  };
}

function rounding(size, by) {
  return (size + by / 2n) / by;
}

function exponential(whole) {
  let exponent = String(whole).length - 1;
  let digits = String(rounding(whole, 10n ** BigInt(exponent - 4)));
  if (digits.length > 5) {
    exponent += 1;
    digits = digits.slice(0, 5);
  }
  const power = [...String(exponent)].map((digit) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[digit]).join('');
  return `${digits[0]}.${digits.slice(1)} × 10${power}`;
}
