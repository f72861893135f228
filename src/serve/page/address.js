/** The page of one address: what it holds and held, its movements, and with whom. */

import { amountOf, approximate } from './amounts.js';
import { choices, nameOf, unitOf } from './assets.js';
import { bars } from './bars.js';
import { amount, block, count, hash, pair, transaction, who } from './cells.js';
import { chart } from './chart.js';
import { copyButton, element } from './dom.js';
import { Panel } from './panel.js';
import { get, hrefWith, set } from './state.js';
import { facts, table } from './table.js';
import { shown } from './text.js';
import { when, whenInFull } from './times.js';

const LIMIT = 100;
const asset = () => get('asset', 'ETH');

/** `{ title, nodes, panels, refresh() }` of an address. */
export function addressPage(address) {
  const title = element('h1', {}, 'Address');
  const select = element('select', {
    id: 'asset', onchange: () => set({
      asset: select.value === 'ETH' ? null : select.value, 'movements.before': null,
    }),
  });
  const named = ({ rows }) => {
    const label = rows[0]?.label;
    title.replaceChildren(label ? element('bdi', {}, shown(label)) : 'Address');
  };
  const panels = [summary(address, named), balances(address), history(address),
    counterparties(address), movements(address)].map((spec) => new Panel(spec));
  const refresh = () => {
    if (document.activeElement === select) return;
    select.replaceChildren(...choices(asset()).map(([value, text]) =>
      element('option', { value, selected: value === asset() }, text)));
  };
  refresh();
  return {
    title: address,
    nodes: [
      element('div', { class: 'subject' }, title,
        element('p', {}, hash(address), ' ', copyButton(address, 'the address'))),
      element('div', { class: 'scope' },
        element('label', { for: 'asset' }, 'Asset of history, counterparties and movements'),
        select),
      element('div', { class: 'grid' }, panels.map((panel) => panel.element)),
    ],
    panels, refresh,
  };
}

const summary = (address, named) => ({
  id: 'summary', title: 'Summary', class: 'half',
  answered: named,
  question: () => ({ name: 'address', parameters: { address } }),
  empty: ({ rows }) => (rows.length && !nothing(rows[0]) ? null
    : 'nothing yet: this address is in none of the blocks stored'),
  views: {
    table: ({ rows: [row] }, comments) => facts('Summary of the address', [
      ['Label', row.label ? element('bdi', {}, shown(row.label)) : null],
      ['Category', row.category ? shown(row.category) : null],
      ['First seen', seen(row, 'first'), comments.first_block],
      ['Last seen', seen(row, 'last'), comments.last_block],
      ['Ether received', sum(row, 'ether_in'), comments.ether_in],
      ['Ether sent', sum(row, 'ether_out'), comments.ether_out],
      ['Fees paid', sum(row, 'fees'), comments.fees],
      ['Transactions sent', sent(row), comments.transaction_count],
      ['Tokens', tokens(row), comments.token_count],
    ]),
  },
});

function sum(row, name) {
  const value = amountOf(row, name);
  return value === null ? null : amount(value, 'ETH', { unit: true });
}

function sent({ transaction_count, failed_count }) {
  if (transaction_count === null || transaction_count === undefined) return null;
  return count(transaction_count) + (failed_count ? `, ${count(failed_count)} of them failed` : '');
}

function tokens({ token_count, tokens_in, tokens_out }) {
  if (!token_count) return null;
  return `${count(token_count)}: ${count(tokens_in)} transfers in, ${count(tokens_out)} out`;
}

const nothing = (row) => [row.first_block, row.last_block, row.label]
  .every((value) => value === null || value === undefined);

function seen(row, which) {
  const number = row[`${which}_block`];
  if (number === null || number === undefined) return null;
  const time = row[`${which}_timestamp`];
  return element('span', {}, 'block ', block(number), time ? ', ' : '', whenInFull(time));
}

const holding = (row) => amount(amountOf(row, 'balance'), row.asset, { unit: row.asset === 'ETH' });

const balances = (address) => ({
  id: 'balances', title: 'Balances', class: 'half', whole: true, every_ms: 4000,
  question: () => ({ name: 'address_balances', parameters: { address } }),
  empty: ({ rows }) => (rows.length ? null
    : 'nothing yet: the node has not reported a balance of this address'),
  views: {
    table: ({ rows }, comments) => table({
      caption: 'The newest known balance of each asset', rows, comments,
      columns: [
        { name: 'asset', title: 'Asset', header: true, cell: (row) => (row.asset === 'ETH' ? 'ETH'
          : who(row.asset, row.symbol ?? null)) },
        { name: 'balance', title: 'Balance', number: true, cell: holding },
        { title: 'Unit', wide: true, cell: (row) => unitOf(row.asset).symbol },
        { name: 'block_number', title: 'After block', number: true,
          cell: (row) => block(row.block_number) },
      ],
    }),
  },
});

const history = (address) => ({
  id: 'history', title: 'Balance over time', class: 'half', first: 'chart',
  whole: true, every_ms: 4000,
  question: () => ({ name: 'address_history', parameters: { address, asset: asset() } }),
  empty: ({ rows }) => (rows.length ? null
    : `nothing yet: no balance of ${nameOf(asset())} is known`),
  views: {
    chart: chart(({ rows }) => overTime(rows)),
    table: ({ rows }, comments) => table({
      caption: `Balance of ${nameOf(asset())} over time, newest first`, comments,
      rows: [...rows].sort((a, b) => b.block_number - a.block_number).slice(0, 500),
      columns: [
        { name: 'block_number', title: 'After block', number: true, header: true,
          cell: (row) => block(row.block_number) },
        { title: 'Time, UTC', cell: (row) => when(row.block_timestamp ?? row.timestamp) },
        { name: 'balance', title: unitOf(asset()).symbol, number: true,
          cell: (row) => amount(amountOf(row, 'balance'), asset()) },
      ],
    }),
  },
});

function overTime(rows) {
  const { decimals, symbol } = unitOf(asset());
  const inOrder = rows.filter((row) => amountOf(row, 'balance') !== null)
    .sort((a, b) => a.block_number - b.block_number);
  return {
    label: `Balance after each block that changed it, ${symbol}`, free: true,
    x: inOrder.map((row) => row.block_number),
    xText: (number) => `block ${number.toLocaleString('en-US')}`,
    series: [{
      label: symbol, kind: 'step', tone: 'accent',
      values: inOrder.map((row) => approximate(amountOf(row, 'balance'), decimals)),
      text: (value, axis) => (Math.abs(value) >= 1e12 ? value.toExponential(4)
        : value.toLocaleString('en-US', { maximumSignificantDigits: axis ? 6 : 8 })),
    }],
  };
}

const counterparties = (address) => ({
  id: 'counterparties', title: 'Counterparties', class: 'half', every_ms: 10_000,
  question: () => ({
    name: 'address_counterparties', parameters: { address, asset: asset(), limit: 20 },
  }),
  empty: ({ rows }) => (rows.length ? null
    : `nothing yet: it has exchanged no ${nameOf(asset())} with anybody`),
  views: {
    chart: (place, { rows }) => {
      place.append(bars({
        label: 'Transfers with each counterparty',
        rows: rows.slice(0, 12).map((row) => ({
          label: who(other(row), row.label, 'none'), value: transfers(row),
          text: count(transfers(row)),
        })),
      }));
      return null;
    },
    table: ({ rows }, comments) => table({
      caption: `Counterparties in ${nameOf(asset())}`, rows, comments,
      columns: [
        { title: 'Address', header: true, cell: (row) => who(other(row), row.label, 'none') },
        { name: 'amount_in', title: 'Received from it', number: true,
          cell: (row) => amount(amountOf(row, 'amount_in'), asset()) },
        { name: 'amount_out', title: 'Sent to it', number: true,
          cell: (row) => amount(amountOf(row, 'amount_out'), asset()) },
        { title: 'Transfers', number: true, cell: (row) => count(transfers(row)) },
      ],
    }),
  },
});

const other = (row) => row.counterparty ?? row.address;
const transfers = (row) => (row.count_in ?? 0) + (row.count_out ?? 0) || row.transfers || 0;

const movements = (address) => ({
  id: 'movements', title: 'Movements', class: 'full', every_ms: 4000,
  question: () => ({
    name: 'address_movements',
    parameters: { address, asset: get('asset'), limit: LIMIT, before: get('movements.before') },
  }),
  empty: ({ rows }) => (rows.length ? null : get('movements.before')
    ? 'there are no older movements' : 'nothing yet: no movement is stored'),
  lead: ({ rows, body }) => pages(rows, body.next),
  views: {
    table: ({ rows }, comments) => table({
      caption: 'Movements, newest first', rows, comments,
      columns: [
        { name: 'block_timestamp', title: 'Time, UTC', cell: (row) => when(row.block_timestamp) },
        { name: 'amount', title: 'Amount', number: true, cell: (row) => [change(row, address),
          element('span', { class: 'phone muted' }, nameOf(row.asset))] },
        { name: 'asset', title: 'Asset', wide: true, cell: (row) => (row.asset === 'ETH' ? 'ETH'
          : element('span', { title: row.asset }, nameOf(row.asset))) },
        { title: 'From', cell: (row) => pair(side(row, 'from', address, 'created'),
          () => side(row, 'to', address, 'destroyed')) },
        { title: 'To', wide: true, cell: (row) => side(row, 'to', address, 'destroyed') },
        { name: 'kind', title: 'Kind', wide: true, cell: (row) => row.kind },
        { name: 'transaction_hash', title: 'Transaction', wide: true,
          cell: (row) => transaction(row.transaction_hash) },
        { name: 'block_number', title: 'Block', number: true,
          cell: (row) => block(row.block_number) },
      ],
    }),
  },
});

function side(row, which, address, missing) {
  const at = row[`${which}_address`];
  if (at === address) return element('span', { class: 'muted' }, 'here');
  return who(at, row[`${which}_label`], missing);
}

function change(row, address) {
  const value = amountOf(row, 'amount');
  if (value === null) return element('span', { class: 'muted' }, 'no amount');
  const itself = row.from_address === row.to_address;
  const sign = !itself && row.from_address === address ? -value : value;
  return amount(sign, row.asset, { sign: !itself });
}

/** The links to older movements and back. */
function pages(rows, next) {
  return element('nav', { class: 'pages', 'aria-label': 'Movements' },
    get('movements.before')
      ? element('a', { href: hrefWith({ 'movements.before': null }) }, 'Newest') : null,
    next ? element('a', { href: hrefWith({ 'movements.before': next }) }, 'Older') : null,
    element('span', { class: 'muted' }, `${rows.length} shown`));
}
