/** Tokens, the newest blocks, reorganisations, and what is stored. */

import { amountOf, approximate } from './amounts.js';
import { nameOf } from './assets.js';
import { bars } from './bars.js';
import { block, count, hex, price, who } from './cells.js';
import { chart } from './chart.js';
import { element } from './dom.js';
import { table } from './table.js';
import { counted, shortened, shown } from './text.js';
import { when } from './times.js';

const contract = (row) => row.asset ?? row.token_address;

export const tokens = () => ({
  id: 'tokens', title: 'Tokens', class: 'half', every_ms: 10_000,
  question: () => ({ name: 'tokens', parameters: { limit: 20 } }),
  empty: ({ rows }) => (rows.length ? null : 'nothing yet: no token moved in the blocks stored'),
  lead: () => element('p', {},
    'Those moved most. Any contract can use any symbol: compare addresses.'),
  views: {
    chart: (place, { rows }) => {
      place.append(bars({
        label: 'Transfers by token',
        rows: rows.slice(0, 12).map((row) => ({
          label: who(contract(row), row.symbol), value: Number(row.transfers),
          text: count(row.transfers),
        })),
      }));
      return null;
    },
    table: ({ rows }, comments) => table({
      caption: 'Tokens by number of transfers', rows, comments,
      columns: [
        { name: 'symbol', title: 'Token', header: true, cell: (row) => (row.symbol
          ? element('bdi', {}, shown(row.symbol))
          : element('span', { class: 'muted' }, 'no symbol')) },
        { name: 'name', title: 'Name', wide: true,
          cell: (row) => (row.name ? element('bdi', {}, shown(row.name)) : '—') },
        { name: 'asset', title: 'Contract', cell: (row) => who(contract(row)) },
        { name: 'standard', title: 'Standard', wide: true, cell: (row) => row.standard ?? '—' },
        { name: 'decimals', title: 'Decimals', number: true, cell: (row) => row.decimals ?? '—' },
        { name: 'transfers', title: 'Transfers', number: true,
          cell: (row) => count(row.transfers) },
        { title: 'Holders', cell: (row) => element('a', {
          href: `?asset=${contract(row)}#holders`,
          'aria-label': `show transfers, holders and flows of ${nameOf(contract(row))}`,
        }, 'show') },
      ],
    }),
  },
});

export const blocks = () => ({
  id: 'blocks', title: 'Newest blocks', class: 'half', every_ms: 2000,
  question: () => ({ name: 'blocks', parameters: { limit: 30 } }),
  empty: ({ rows }) => (rows.length ? null : "waiting for the node's first block"),
  views: {
    chart: chart(({ rows }) => perBlock(rows)),
    table: ({ rows }, comments) => table({
      caption: 'The newest blocks', rows, comments,
      columns: [
        { name: 'number', title: 'Block', number: true, header: true,
          cell: (row) => block(row.number) },
        { name: 'timestamp', title: 'Time, UTC', cell: (row) => when(row.timestamp) },
        { name: 'transaction_count', title: 'Transactions', number: true,
          cell: (row) => count(row.transaction_count) },
        { name: 'gas_used', title: 'Gas used', number: true, cell: (row) => used(row) },
        { name: 'base_fee_per_gas', title: 'Base fee', number: true, wide: true,
          cell: (row) => price(amountOf(row, 'base_fee_per_gas')) },
        { name: 'miner', title: 'Fee recipient', wide: true, cell: (row) => who(row.miner) },
        { name: 'hash', title: 'Hash', wide: true, cell: (row) => hex(row.hash) },
      ],
    }),
  },
});

function used({ gas_used, gas_limit }) {
  if (!gas_limit) return count(gas_used);
  const share = (Number(gas_used) / Number(gas_limit)) * 100;
  return element('span', { title: `${gas_used} of ${gas_limit}` }, `${share.toFixed(1)} %`);
}

function perBlock(rows) {
  const inOrder = [...rows].sort((a, b) => a.number - b.number);
  return {
    label: 'Transactions per block', x: inOrder.map((row) => row.number),
    xText: (number) => `block ${number.toLocaleString('en-US')}`,
    series: [{
      label: 'transactions', kind: 'bars', tone: 'accent',
      values: inOrder.map((row) => approximate(BigInt(row.transaction_count ?? 0), 0)),
      text: (value) => value.toLocaleString('en-US'),
    }],
  };
}

export const reorgs = () => ({
  id: 'reorgs', title: 'Reorganisations', class: 'half', every_ms: 4000,
  question: () => ({ name: 'reorgs', parameters: { limit: 20 } }),
  empty: ({ rows }) => (rows.length ? null
    : 'none: the chain has not been reorganised while spyhop followed it'),
  views: {
    table: ({ rows }, comments) => table({
      caption: 'Reorganisations, newest first', rows, comments,
      columns: [
        { name: 'detected_at', title: 'Seen, UTC', cell: (row) => when(row.detected_at) },
        { name: 'fork_block', title: 'Fork after', number: true,
          cell: (row) => block(row.fork_block) },
        { name: 'depth', title: 'Depth', number: true, cell: (row) => count(row.depth) },
        { name: 'old_hashes', title: 'Dropped', cell: (row) => hashes(row.old_hashes) },
        { name: 'new_hashes', title: 'Replaced by', wide: true,
          cell: (row) => hashes(row.new_hashes) },
      ],
    }),
  },
});

function hashes(list) {
  const few = (list ?? []).slice(0, 3).map(shortened).join(', ');
  const more = (list ?? []).length > 3 ? ` and ${list.length - 3} more` : '';
  return element('span', { class: 'hex', title: (list ?? []).slice(0, 64).join('\n') },
    few ? few + more : '—');
}

const STATUSES = ['held', 'partial', 'failed', 'missing'];
const NUMBER = (number) => Number(number).toLocaleString('en-US');

export const coverage = () => ({
  id: 'coverage', title: 'Coverage', class: 'half', whole: true, first: 'chart', every_ms: 6000,
  question: () => ({ name: 'coverage', parameters: {} }),
  empty: ({ rows }) => (rows.length ? null : 'nothing yet: no block is stored'),
  lead: () => element('p', { class: 'keys' }, STATUSES.map((status) => element('span', {},
    element('span', { class: `key status-${status}`, 'aria-hidden': 'true' }), status))),
  views: {
    chart: (place, { rows }) => {
      place.append(strips(rows));
      return null;
    },
    table: ({ rows }, comments) => table({
      caption: 'What is stored of each table', rows, comments,
      columns: [
        { name: 'table_name', title: 'Table', header: true, cell: (row) => row.table_name },
        { name: 'first_block', title: 'From', number: true, cell: (row) => block(row.first_block) },
        { name: 'last_block', title: 'To', number: true, cell: (row) => block(row.last_block) },
        { name: 'status', title: 'Status', cell: (row) => element('span', {},
          element('span', { class: `key status-${row.status}`, 'aria-hidden': 'true' }),
          row.status) },
        { name: 'reason', title: 'Reason', cell: (row) => shown(row.reason ?? '') },
      ],
    }),
  },
});

/** One strip per table: where along the chain its rows are held, partial, failed or missing. */
function strips(rows) {
  const names = [...new Set(rows.map((row) => row.table_name))];
  const last = Math.max(...rows.map((row) => row.last_block));
  const whole = last + 1;
  return element('ol', { class: 'strips', 'aria-label': `Blocks 0 to ${NUMBER(last)}, by table` },
    names.map((name) => {
      const mine = rows.filter((row) => row.table_name === name);
      const held = mine.filter(({ status }) => status === 'held')
        .reduce((sum, row) => sum + row.last_block - row.first_block + 1, 0);
      const share = Math.floor((held / whole) * 1000) / 10;
      return element('li', {},
        element('span', { class: 'name' }, name),
        element('span', { class: 'strip', 'aria-hidden': 'true' },
          mine.map((row) => segment(row, whole))),
        element('span', { class: 'value', title: `${counted(held, 'block')} held` },
          held ? `${share} %` : mine[0].status));
    }));
}

function segment({ first_block, last_block, status, reason }, whole) {
  const why = reason ? `, ${shown(reason)}` : '';
  const made = element('span', {
    class: `status-${status}`,
    title: `${NUMBER(first_block)} to ${NUMBER(last_block)}: ${status}${why}`,
  });
  made.style.left = `${(first_block / whole) * 100}%`;
  made.style.width = `${((last_block - first_block + 1) / whole) * 100}%`;
  return made;
}
