/** Who gained and who lost: by address over a period, and by category of labels day by day. */

import { amountOf, approximate } from './amounts.js';
import { nameOf, unitOf } from './assets.js';
import { bars } from './bars.js';
import { amount, count, who } from './cells.js';
import { chart } from './chart.js';
import { choice, element } from './dom.js';
import { get, set } from './state.js';
import { table } from './table.js';
import { shown } from './text.js';
import { when } from './times.js';

const PERIODS = ['1h', '24h', '7d', '30d'];
const TONES = ['accent', 'out', 'in', 'third'];
const asset = () => get('asset', 'ETH');

function period() {
  const chosen = get('flows.period', '24h');
  return PERIODS.includes(chosen) ? chosen : '24h';
}

const amounts = [
  ['amount_in', 'In'], ['amount_out', 'Out'],
].map(([name, title]) => ({
  name, title, number: true, wide: true, cell: (row) => amount(amountOf(row, name), asset()),
}));

const net = () => ({
  name: 'amount_net', title: `Net, ${unitOf(asset()).symbol}`, number: true,
  cell: (row) => amount(amountOf(row, 'amount_net'), asset(), { sign: true }),
});

export const flows = () => ({
  id: 'flows', title: 'Net flows', class: 'half', first: 'chart', every_ms: 6000,
  question: () => ({
    name: 'net_flows', parameters: { period: period(), asset: asset(), limit: 20 },
  }),
  controls: () => choice('Period', PERIODS.map((one) => [one, one.replace(/(\d)([hd])/, '$1 $2')]),
    period(), (chosen) => set({ 'flows.period': chosen === '24h' ? null : chosen })),
  empty: ({ rows }) => (rows.length ? null
    : `nothing yet: no ${nameOf(asset())} moved in this period`),
  lead: ({ rows }) => element('p', {}, completeness(rows[0])),
  views: {
    chart: (place, { rows }) => {
      place.append(bars({
        label: `Net flows of ${nameOf(asset())} in ${period()}`,
        rows: rows.slice(0, 14).map((row) => ({
          label: who(row.address, row.label),
          value: approximate(amountOf(row, 'amount_net') ?? 0n, unitOf(asset()).decimals),
          text: amount(amountOf(row, 'amount_net'), asset(), { sign: true }),
        })),
      }));
      return null;
    },
    table: ({ rows }, comments) => table({
      caption: `Net flows of ${nameOf(asset())} in ${period()}`, rows, comments,
      columns: [
        { title: 'Address', header: true, cell: (row) => who(row.address, row.label) },
        net(), ...amounts,
        { title: 'Transfers', number: true, wide: true,
          cell: (row) => `${count(row.count_in)} in, ${count(row.count_out)} out` },
      ],
    }),
  },
});

function completeness(row) {
  if (!row) return '';
  if (!row.complete) return 'Not every block of this period is stored: the amounts are too low.';
  return row.internal_complete
    ? 'Every block of this period is stored, internal transfers too. Fees are not counted.'
    : 'Every block of this period is stored; internal transfers of some are not known.';
}

export const exchanges = () => ({
  id: 'exchanges', title: 'Exchanges and other categories', class: 'half', first: 'chart',
  every_ms: 6000,
  question: () => ({ name: 'exchange_flows', parameters: { asset: asset(), limit: 200 } }),
  empty: ({ rows }) => (rows.length ? null
    : 'nothing yet: no address whose label has a category moved this asset; ' +
      '`--labels FILE` adds labels'),
  lead: () => element('p', {}, 'Net flow into all addresses of a category, by UTC day.'),
  views: {
    chart: (place, data) => (days(data.rows).length < 3
      ? latest(place, data.rows)
      : chart(({ rows }) => byDay(rows))(place, data)),
    table: ({ rows }, comments) => table({
      caption: `Flows of ${nameOf(asset())} by day and category`, rows, comments,
      columns: [
        { name: 'day', title: 'Day, UTC', cell: (row) => when(row.day, { day: true }) },
        { name: 'category', title: 'Category', header: true,
          cell: (row) => element('bdi', {}, shown(row.category ?? 'none')) },
        net(), ...amounts,
        { name: 'address_count', title: 'Addresses', number: true, wide: true,
          cell: (row) => count(row.address_count) },
      ],
    }),
  },
});

const days = (rows) => [...new Set(rows.map((row) => row.day))].sort();

function latest(place, rows) {
  place.append(bars({
    label: `Net flows of ${nameOf(asset())} by category`,
    rows: rows.slice(0, 14).map((row) => ({
      label: element('span', {}, element('bdi', {}, shown(row.category ?? 'none')),
        element('span', { class: 'muted' }, ` ${String(row.day).slice(5, 10)}`)),
      value: approximate(amountOf(row, 'amount_net') ?? 0n, unitOf(asset()).decimals),
      text: amount(amountOf(row, 'amount_net'), asset(), { sign: true }),
    })),
  }));
  return null;
}

function byDay(rows) {
  const { decimals, symbol } = unitOf(asset());
  const x = days(rows);
  const categories = [...new Set(rows.map((row) => row.category))].slice(0, TONES.length);
  const value = (day, category) => {
    const row = rows.find((one) => one.day === day && one.category === category);
    return row ? approximate(amountOf(row, 'amount_net'), decimals) : null;
  };
  return {
    label: `Net flow by category, ${symbol}`, time: true, x: x.map((day) => Date.parse(day) / 1000),
    xText: (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10),
    series: categories.map((category, at) => ({
      label: shown(category ?? 'none'), kind: 'line', tone: TONES[at],
      values: x.map((day) => value(day, category)),
      text: (number) => number.toLocaleString('en-US', { maximumSignificantDigits: 5 }),
    })),
  };
}
