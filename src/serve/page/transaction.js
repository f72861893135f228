/** The page of one transaction: its summary, what it moved, and its logs. */

import { amountOf, grouped } from './amounts.js';
import { nameOf } from './assets.js';
import { outcome } from './block.js';
import { amount, block, count, hash, hex, price, who } from './cells.js';
import { copyButton, element } from './dom.js';
import { Panel } from './panel.js';
import { facts, plainFacts, table } from './table.js';
import { whenInFull } from './times.js';

const TYPES = ['legacy', 'access list', 'fee market', 'blobs', 'set code'];

/** `{ title, nodes, panels }` of a transaction. */
export function transactionPage(key) {
  const panels = [summary, movements, logs].map((spec) => new Panel(spec(key)));
  return {
    title: `Transaction ${key}`, panels,
    nodes: [
      element('div', { class: 'subject' }, element('h1', {}, 'Transaction'),
        element('p', {}, hash(key), ' ', copyButton(key, 'the hash'))),
      element('div', { class: 'grid' }, panels.map((panel) => panel.element)),
    ],
  };
}

const summary = (key) => ({
  id: 'summary', title: 'Summary', class: 'full', first: 'chart', every_ms: 10_000,
  titles: { chart: 'Summary', table: 'All fields' },
  question: () => ({ name: 'transaction', parameters: { hash: key } }),
  empty: ({ rows }) => (rows.length ? null
    : 'this transaction is in none of the blocks stored; a reorganisation may have undone it'),
  views: {
    chart: (place, { rows: [row] }) => {
      place.append(described(row));
      return null;
    },
    table: ({ body }, comments) => plainFacts('Every field of the transaction', body, comments),
  },
});

function described(row) {
  const fee = ['fee_burnt', 'fee_tip', 'fee_blob'].map((name) => amountOf(row, name) ?? 0n);
  const total = fee.reduce((sum, part) => sum + part, 0n);
  const ether = (wei) => amount(wei, 'ETH', { unit: true });
  return facts('Summary of the transaction', [
    ['Outcome', outcome(row)],
    ['Block', element('span', {}, block(row.block_number), `, position ${row.transaction_index}`)],
    ['Time', whenInFull(row.block_timestamp)],
    ['From', party(row.from_address, row.from_label)],
    ['To', row.to_address ? party(row.to_address, row.to_label)
      : element('span', {}, 'creates ', party(row.receipt_contract_address))],
    ['Value', ether(amountOf(row, 'value'))],
    ['Fee', element('span', {}, ether(total), element('span', { class: 'muted' }, ' = '),
      ether(fee[0]), ' burnt + ', ether(fee[1]), ' tip',
      fee[2] ? [' + ', ether(fee[2]), ' burnt for blobs'] : '')],
    ['Gas', `${count(row.receipt_gas_used)} used of ${count(row.gas)}`],
    ['Price paid', price(amountOf(row, 'receipt_effective_gas_price'))],
    ['Type', `${row.transaction_type} (${TYPES[row.transaction_type] ?? 'not known'})`],
    ['Nonce', grouped(row.nonce ?? '—')],
    ['Input', input(row.input)],
  ]);
}

const party = (address, label) => element('span', {}, who(address, label),
  address && label ? element('span', { class: 'hex beside' }, ` ${address}`) : null);

function input(data) {
  if (!data || data === '0x') return 'none';
  const bytes = (data.length - 2) / 2;
  return element('span', { class: 'hex long' },
    bytes > 512 ? `${data.slice(0, 1026)}… (${grouped(bytes)} bytes)` : data);
}

const movements = (key) => ({
  id: 'movements', title: 'Movements', class: 'full', whole: true, every_ms: 10_000,
  question: () => ({ name: 'transaction_movements', parameters: { hash: key } }),
  empty: ({ rows }) => (rows.length ? null : 'none: it moved neither ether nor a token'),
  views: {
    table: ({ rows }, comments) => table({
      caption: 'What the transaction moved', rows, comments,
      columns: [
        { name: 'kind', title: 'Kind', cell: (row) => row.kind },
        { title: 'From', cell: (row) => who(row.from_address, row.from_label, 'created') },
        { title: 'To', cell: (row) => who(row.to_address, row.to_label, 'destroyed') },
        { name: 'amount', title: 'Amount', number: true,
          cell: (row) => amount(amountOf(row, 'amount'), row.asset) },
        { name: 'token_id', title: 'Token id', wide: true, number: true, cell: (row) =>
          hex(amountOf(row, 'token_id') === null ? null : String(amountOf(row, 'token_id'))) },
        { name: 'asset', title: 'Asset', header: true, cell: (row) => (row.asset === 'ETH' ? 'ETH'
          : element('span', { title: row.asset }, nameOf(row.asset))) },
      ],
    }),
  },
});

const logs = (key) => ({
  id: 'logs', title: 'Logs', class: 'full', whole: true, every_ms: 10_000,
  question: () => ({ name: 'transaction_logs', parameters: { hash: key } }),
  empty: ({ rows }) => (rows.length ? null : 'none: it emitted no log'),
  views: {
    table: ({ rows }, comments) => table({
      caption: 'Logs of the transaction', rows, comments,
      columns: [
        { name: 'log_index', title: '#', number: true, cell: (row) => row.log_index },
        { name: 'address', title: 'Contract', header: true,
          cell: (row) => who(row.address, row.label) },
        { title: 'Topics', cell: (row) => [row.topic0, row.topic1, row.topic2, row.topic3]
          .filter(Boolean).map((topic) => element('div', {}, hex(topic))) },
        { name: 'data', title: 'Data', cell: (row) => hex(row.data) },
      ],
    }),
  },
});
