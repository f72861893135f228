/** What stands in a table's cell: addresses, blocks, transactions, amounts. */

import { unitOf } from './assets.js';
import { exact, gasPrice, grouped, parse, short, signed } from './amounts.js';
import { element } from './dom.js';
import { get, link } from './state.js';
import { shortened, shown } from './text.js';

/** Whether every digit is shown, instead of in the title. */
export const everyDigit = () => get('digits') === 'all';

/** An address: its label if it has one, in either case a link to its page. */
export function who(address, label, missing = '—') {
  if (!address) return element('span', { class: 'muted' }, missing);
  const text = label
    ? element('bdi', {}, shown(label))
    : element('span', { class: 'hex' }, everyDigit() ? address : shortened(address));
  const beside = label && everyDigit() ? element('span', { class: 'hex beside' }, address) : null;
  return element('a', { href: link({ address }), title: address }, text, beside);
}

/** Sender and recipient in one cell on a phone, where the recipient's own column is left out. */
export function pair(from, to) {
  return [from, element('span', { class: 'phone' }, '→ ', to())];
}

/** A link to a block, by number; its hash, if it is given, is the title, or with all digits beside. */
export function block(number, hash = null) {
  if (number === null || number === undefined) return '—';
  return element('a', { href: link({ block: number }), class: 'number', title: hash },
    grouped(number),
    hash && everyDigit() ? element('span', { class: 'hex beside' }, hash) : null);
}

/** A link to a transaction. */
export function transaction(hash) {
  if (!hash) return '—';
  return element('a', { href: link({ transaction: hash }), class: 'hex', title: hash },
    everyDigit() ? hash : shortened(hash));
}

/** A hash or data that nothing links to. */
export function hex(text) {
  if (!text) return '—';
  return element('span', { class: 'hex', title: text.slice(0, 2000) },
    everyDigit() ? text : shortened(text));
}

/** A hash in full. */
export const hash = (text) => element('span', { class: 'hex long' }, text ?? '—');

/** An amount of an asset: rounded, with every digit in the title; a click copies it. */
export function amount(value, asset, { sign = false, unit = false } = {}) {
  const number = parse(value);
  if (number === null) return element('span', { class: 'muted', title: 'not known' }, '—');
  const { decimals, symbol } = unitOf(asset);
  const full = exact(number, decimals);
  const text = everyDigit() ? full : sign ? signed(number, decimals) : short(number, decimals);
  const tone = sign && number !== 0n ? (number > 0n ? ' in' : ' out') : '';
  const smallest = decimals ? ` (${number} in the smallest unit)` : '';
  return element('data', {
    class: `amount${tone}`, value: full, title: `${full} ${symbol}${smallest}\nclick to copy`,
  }, text, unit ? element('span', { class: 'unit' }, ` ${symbol}`) : null);
}

/** Wei per gas. */
export function price(value) {
  const wei = parse(value);
  if (wei === null) return '—';
  const [text, unit] = everyDigit() ? [exact(wei, 9), 'gwei'] : gasPrice(wei);
  return element('data', { class: 'amount', value: String(wei), title: `${wei} wei per gas` },
    text, element('span', { class: 'unit' }, ` ${unit}`));
}

/** A whole number. */
export function count(value) {
  return value === null || value === undefined ? '—' : grouped(value);
}

/** A percentage that is decimal text. */
export function percent(value) {
  return value === null || value === undefined ? '—' : `${value} %`;
}

/** Copies an amount that is clicked. The keyboard's way is the switch `All digits`. */
export function copyOnClick() {
  document.addEventListener('click', async (event) => {
    const amount = event.target.closest?.('data.amount');
    if (!amount || !getSelection().isCollapsed) return;
    await navigator.clipboard?.writeText(amount.value).catch(() => {});
    amount.classList.add('copied');
    setTimeout(() => amount.classList.remove('copied'), 800);
  });
}
