/** The page of one block: its header and its transactions. */

import { amountOf } from './amounts.js';
import { amount, count, hash, pair, price, transaction, who } from './cells.js';
import { copyButton, element } from './dom.js';
import { Panel } from './panel.js';
import { link } from './state.js';
import { facts, plainFacts, table } from './table.js';
import { grouped } from './amounts.js';
import { newest } from './strip.js';
import { whenInFull } from './times.js';

/** `{ title, nodes, panels }` of a block, by number or hash. */
export function blockPage(key) {
  const title = element('h1', {}, 'Block ', /^\d+$/.test(key) ? grouped(key) : '');
  const beside = element('p', {});
  const found = ({ rows: [row] }) => {
    if (!row) return;
    title.replaceChildren('Block ', grouped(row.number));
    const later = (newest()?.block ?? Infinity) > row.number;
    beside.replaceChildren(element('nav', { class: 'pages', 'aria-label': 'Neighbouring blocks' },
      row.number > 0
        ? element('a', { href: link({ block: row.number - 1 }), rel: 'prev' }, '← Previous') : null,
      later
        ? element('a', { href: link({ block: row.number + 1 }), rel: 'next' }, 'Next →') : null),
    hash(row.hash), ' ', copyButton(row.hash, 'the hash'));
  };
  const panels = [new Panel(header(key, found)), new Panel(transactions(key))];
  return {
    title: `Block ${key}`, panels,
    nodes: [element('div', { class: 'subject' }, title, beside),
      element('div', { class: 'grid' }, panels.map((panel) => panel.element))],
  };
}

const header = (key, answered) => ({
  id: 'header', title: 'Header', class: 'full', first: 'chart', answered, every_ms: 10_000,
  titles: { chart: 'Summary', table: 'All fields' },
  question: () => ({ name: 'block', parameters: { block: key } }),
  empty: ({ rows }) => (rows.length ? null : missing(key)),
  views: {
    chart: (place, { rows: [row] }) => {
      place.append(summary(row));
      return null;
    },
    table: ({ body }, comments) => plainFacts('Every field of the block', body, comments),
  },
});

function missing(key) {
  const at = newest();
  return at && Number(key) > at.block
    ? `not yet: the newest block is ${grouped(at.block)}`
    : 'this block is not stored; the coverage panel says which are';
}

function summary(row) {
  const percent = (Number(row.gas_used) / Number(row.gas_limit)) * 100;
  const share = row.gas_limit ? ` of ${grouped(row.gas_limit)} (${percent.toFixed(1)} %)` : '';
  return facts('Summary of the block', [
    ['Time', whenInFull(row.timestamp)],
    ['Parent', row.number > 0 ? element('a', {
      href: link({ block: row.parent_hash }), class: 'hex long',
    }, row.parent_hash) : null],
    ['Fee recipient', who(row.miner, row.miner_label)],
    ['Transactions', count(row.transaction_count) +
      (row.failed_count ? `, ${count(row.failed_count)} of them failed` : '')],
    ['Logs', row.log_count === undefined ? null : count(row.log_count)],
    ['Withdrawals', row.withdrawal_count ? count(row.withdrawal_count) : null],
    ['Gas used', `${count(row.gas_used)}${share}`],
    ['Base fee', amountOf(row, 'base_fee_per_gas') === null ? null
      : price(amountOf(row, 'base_fee_per_gas'))],
    ['Burnt', ether(row, 'burnt')],
    ['Tips', ether(row, 'tips')],
    ['Blobs', row.blob_count ? count(row.blob_count) : null],
    ['Blob gas used', row.blob_gas_used ? count(row.blob_gas_used) : null],
    ['Size', row.size === undefined ? null : `${count(row.size)} bytes`],
    ['State root', hash(row.state_root)],
  ]);
}

function ether(row, name) {
  const value = amountOf(row, name);
  return value === null ? null : amount(value, 'ETH', { unit: true });
}

const transactions = (key) => ({
  id: 'transactions', title: 'Transactions', class: 'full', whole: true, every_ms: 10_000,
  question: () => ({ name: 'block_transactions', parameters: { block: key, limit: 200 } }),
  empty: ({ rows }) => (rows.length ? null : 'none'),
  views: {
    table: ({ rows }, comments) => table({
      caption: 'Transactions of the block', rows, comments,
      columns: [
        { name: 'transaction_index', title: '#', number: true,
          cell: (row) => row.transaction_index },
        { name: 'hash', title: 'Transaction', header: true,
          cell: (row) => transaction(row.hash ?? row.transaction_hash) },
        { title: 'From', cell: (row) => pair(who(row.from_address, row.from_label),
          () => who(row.to_address, row.to_label, 'new contract')) },
        { title: 'To', wide: true,
          cell: (row) => who(row.to_address, row.to_label, 'new contract') },
        { name: 'value', title: 'ETH', number: true,
          cell: (row) => amount(amountOf(row, 'value'), 'ETH') },
        { name: 'receipt_gas_used', title: 'Gas used', number: true, wide: true,
          cell: (row) => count(row.receipt_gas_used) },
        { name: 'receipt_status', title: 'Outcome', wide: true, cell: outcome },
      ],
    }),
  },
});

/** Whether a transaction succeeded, in a word. */
export function outcome({ receipt_status }) {
  if (receipt_status === 1) return element('span', { class: 'in' }, 'succeeded');
  if (receipt_status === 0) return element('span', { class: 'out' }, 'failed');
  return 'not known';
}
