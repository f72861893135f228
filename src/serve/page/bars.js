/** Horizontal bars: one row each, to both sides of zero if there are negative values. */

import { element } from './dom.js';

const LOGARITHMIC_FROM = 5000;

/**
 * `rows`: `{ label, value, text }`, where `label` and `text` are nodes and `value` is a number. If
 * all values are above zero and differ too much to be seen, the scale is logarithmic and says so.
 */
export function bars({ label, rows }) {
  const sizes = rows.map(({ value }) => Math.abs(value));
  const largest = Math.max(...sizes, 0);
  const diverging = rows.some(({ value }) => value < 0);
  const smallest = Math.min(...sizes.filter((size) => size > 0));
  const logarithmic = !diverging && largest / smallest > LOGARITHMIC_FROM;
  const part = (size) => {
    if (size === 0 || largest === 0) return 0;
    if (!logarithmic) return size / largest;
    const range = Math.log10(largest) - Math.log10(smallest) + 1;
    return (Math.log10(size) - Math.log10(smallest) + 1) / range;
  };
  const list = rows.map(({ label, value, text }) => {
    const bar = element('span', { class: value < 0 ? 'bar out' : 'bar in' });
    bar.style.width = `${part(Math.abs(value)) * (diverging ? 50 : 100)}%`;
    return element('li', {},
      element('span', { class: 'name' }, label),
      element('span', { class: 'track', 'aria-hidden': 'true' }, bar),
      element('span', { class: 'value' }, text));
  });
  return element('div', { class: 'drawn' },
    element('ol', { class: diverging ? 'bars diverging' : 'bars', 'aria-label': label }, list),
    logarithmic ? element('p', { class: 'aside' }, 'Lengths are logarithmic.') : null);
}
