/** Large transfers as they happen: asked for once, then taken from the server's events. */

import { amountOf, approximate, short } from './amounts.js';
import { nameOf, unitOf } from './assets.js';
import { amount, block, pair, transaction, who } from './cells.js';
import { chart } from './chart.js';
import { announce, element } from './dom.js';
import { get } from './state.js';
import { table } from './table.js';
import { counted } from './text.js';
import { when } from './times.js';
import { identity, learnReorgs, remember, standing, undone } from './undone.js';

const LIMIT = 20;
const asset = () => get('asset', 'ETH');

/** Rows that came as events and are newer than the panel's answer. */
let arrived = [];
/** Identities of what was on the page at the last look, so that only what is new lights up. */
let before = null;

/** Takes in an event `published`. */
export function heard({ transfers = [], reorgs = [] }) {
  const news = learnReorgs(reorgs);
  for (const { fork_block } of news) {
    arrived = arrived.filter((row) => row.block_number <= fork_block);
  }
  const known = new Set(arrived.map(identity));
  arrived = [...transfers.filter((row) => !known.has(identity(row))), ...arrived].slice(0, 500);
  remember(transfers);
  if (news.length) {
    const blocks = news.reduce((sum, { depth }) => sum + depth, 0);
    announce(`A reorganisation dropped ${counted(blocks, 'block')}.`);
    return;
  }
  const mine = transfers.filter((row) => row.asset === asset());
  if (!mine.length) return;
  const size = (row) => amountOf(row, 'amount') ?? 0n;
  const largest = mine.reduce((a, b) => (size(b) > size(a) ? b : a));
  const { decimals, symbol } = unitOf(asset());
  announce(`${counted(mine.length, 'new large transfer')}, the largest of ` +
    `${short(size(largest), decimals)} ${symbol}.`);
}

/** What to show, newest first: the answer's rows, newer ones from events; and those undone. */
function current({ rows, body }) {
  const answered = standing(rows, body.published);
  const known = new Set(answered.map(identity));
  const top = answered.length < rows.length ? -1 : body.published?.block ?? -1;
  const newer = arrived.filter((row) =>
    row.asset === asset() && row.block_number > top && !known.has(identity(row)));
  const counting = [...newer, ...answered].slice(0, LIMIT);
  remember(counting);
  const lowest = counting.length ? counting.at(-1).block_number : 0;
  const reasons = undone([...newer, ...answered], asset(), lowest);
  const all = [...counting, ...[...reasons.keys()].slice(-LIMIT)]
    .sort((a, b) => later(b, a) || b.block_number - a.block_number);
  return { all, counting, reasons };
}

/** By time, for the blocks of a new branch are lower than those it dropped. */
const later = ({ block_timestamp: a }, { block_timestamp: b }) => (a === b ? 0 : a > b ? 1 : -1);

export const transfers = () => ({
  id: 'transfers', title: 'Large transfers', class: 'wide-panel', every_ms: 500,
  question: () => ({
    name: 'large_transfers', parameters: { asset: asset(), limit: LIMIT },
    also: { reorgs: ['reorgs', { limit: 20 }] },
  }),
  answered: ({ also }) => {
    for (const { fork_block } of learnReorgs(also.reorgs)) {
      arrived = arrived.filter((row) => row.block_number <= fork_block);
    }
  },
  empty: (data) => (current(data).all.length ? null
    : `nothing yet: no transfer of ${nameOf(asset())} is stored that counts as large`),
  lead: () => element('p', {},
    'The 100 largest of each asset and day, and all of at least 100 ether; newest first, live.'),
  views: {
    chart: chart((data) => drawn(current(data).counting)),
    table: (data, comments) => list(current(data), comments),
  },
});

function list({ all: rows, reasons: why }, comments) {
  const { symbol } = unitOf(asset());
  const fresh = new Set(rows.map(identity).filter((key) => before && !before.has(key)));
  before = new Set(rows.map(identity));
  const struck = (row, ...nodes) => (why.get(row) ? element('del', {}, nodes) : nodes);
  return table({
    caption: `Large transfers of ${nameOf(asset())}, newest first`, rows, comments,
    rowClass: (row) => (why.get(row) ? 'undone' : fresh.has(identity(row)) ? 'fresh' : null),
    columns: [
      { name: 'block_timestamp', title: 'Time, UTC', cell: (row) => when(row.block_timestamp) },
      { name: 'amount', title: symbol, number: true,
        cell: (row) => struck(row, amount(amountOf(row, 'amount'), asset())) },
      { name: 'from_address', title: 'From', cell: (row) => [
        pair(side(row, 'from', struck(row, who(row.from_address, row.from_label, 'created'))),
          () => side(row, 'to', struck(row, who(row.to_address, row.to_label, 'destroyed')))),
        why.get(row) ? element('p', { class: 'reason' }, why.get(row)) : null,
      ] },
      { name: 'to_address', title: 'To', wide: true, cell: (row) =>
        side(row, 'to', struck(row, who(row.to_address, row.to_label, 'destroyed'))) },
      { name: 'kind', title: 'Kind', wide: true, cell: (row) => row.kind },
      { name: 'transaction_hash', title: 'Transaction', wide: true,
        cell: (row) => struck(row, transaction(row.transaction_hash)) },
      { name: 'block_number', title: 'Block', number: true,
        cell: (row) => struck(row, block(row.block_number, row.block_hash)) },
    ],
  });
}

/** One side, with what it held after the block in its title. */
function side(row, name, link) {
  const balance = amountOf(row, `${name}_balance`);
  if (balance === null) return element('span', {}, link);
  const { decimals, symbol } = unitOf(asset());
  return element('span', { class: 'side' }, link,
    element('span', { class: 'held', title: 'balance after the block' },
      `holds ${short(balance, decimals)} ${symbol.startsWith('smallest') ? '' : symbol}`));
}

function drawn(rows) {
  const { decimals, symbol } = unitOf(asset());
  const inOrder = rows.filter((row) => amountOf(row, 'amount') !== null)
    .sort((a, b) => (a.block_timestamp < b.block_timestamp ? -1 : 1));
  return {
    label: `Amounts of the newest large transfers, ${symbol}`, time: true, logarithmic: true,
    x: inOrder.map((row) => Date.parse(row.block_timestamp) / 1000),
    xText: (seconds) => `${new Date(seconds * 1000).toISOString().slice(11, 19)} UTC`,
    series: [{
      label: symbol, kind: 'points', tone: 'accent',
      values: inOrder.map((row) => approximate(amountOf(row, 'amount'), decimals)),
      text: (value) => value.toLocaleString('en-US', { maximumSignificantDigits: 6 }),
    }],
  };
}
