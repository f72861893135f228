/** Gas: what it cost, who got it, what was burnt; by hour and by day. */

import { amountOf, approximate } from './amounts.js';
import { amount, block, count, percent, price } from './cells.js';
import { chart } from './chart.js';
import { choice, element } from './dom.js';
import { get, set } from './state.js';
import { table } from './table.js';
import { when } from './times.js';

const SCOPES = [['hours', 'Hours'], ['days', 'Days']];
const MEASURES = [
  ['base', 'Base fee'], ['tips', 'Tips'], ['burnt', 'Burnt'], ['blobs', 'Blobs'], ['use', 'Use'],
];

const valid = (options, chosen) =>
  options.some(([key]) => key === chosen) ? chosen : options[0][0];
const scope = () => valid(SCOPES, get('gas.scope'));
const measure = () => valid(MEASURES, get('gas.measure'));

const start = (row) => row.hour ?? row.day;
/** On the axis without the unit; of little, as wei. */
const gwei = (number, axis) => (!axis && number !== 0 && Math.abs(number) < 1e-6
  ? `${tidy(number * 1e9)} wei` : `${tidy(number)}${axis ? '' : ' gwei'}`);
const ether = (number, axis) => `${tidy(number)}${axis ? '' : ' ETH'}`;
const plain = (number) => tidy(number);

function tidy(number) {
  if (number !== 0 && (Math.abs(number) < 1e-4 || Math.abs(number) >= 1e9)) {
    return number.toExponential(2);
  }
  return number.toLocaleString('en-US', { maximumSignificantDigits: 4 });
}

const line = (name, label, tone, decimals, text, kind = 'line') => ({
  label, tone, text, kind, read: (row) => approximate(amountOf(row, name), decimals),
});

const SERIES = {
  base: [
    line('base_fee_max', 'highest', 'faint', 9, gwei),
    line('base_fee_50', 'median', 'accent', 9, gwei),
    line('base_fee_min', 'lowest', 'faint', 9, gwei),
  ],
  tips: [
    line('tip_90', '90 %', 'faint', 9, gwei), line('tip_50', 'median', 'accent', 9, gwei),
    line('tip_10', '10 %', 'faint', 9, gwei),
  ],
  burnt: [
    line('burnt', 'burnt', 'out', 18, ether, 'bars'), line('tips', 'to proposers', 'in', 18, ether),
    line('blob_burnt', 'burnt for blobs', 'third', 18, ether),
  ],
  blobs: [line('blob_count', 'blobs', 'third', 0, plain, 'bars')],
  use: [{
    label: 'gas used', tone: 'accent', kind: 'bars', text: (number) => `${tidy(number)} %`,
    read: (row) => (row.utilisation === null ? null : Number(row.utilisation)),
  }],
};

function drawn(rows) {
  const by = measure();
  const inOrder = [...rows].sort((a, b) => (start(a) < start(b) ? -1 : 1));
  return {
    label: MEASURES.find(([key]) => key === by)[1], time: true,
    x: inOrder.map((row) => Date.parse(start(row)) / 1000),
    xText: (seconds) => {
      const iso = new Date(seconds * 1000).toISOString();
      return scope() === 'hours' ? `${iso.slice(0, 16).replace('T', ' ')} UTC` : iso.slice(0, 10);
    },
    band: by === 'base' || by === 'tips' ? [1, 3] : null,
    series: SERIES[by].map(({ read, ...rest }) => ({ ...rest, values: inOrder.map(read) })),
  };
}

export const gas = () => ({
  id: 'gas', title: 'Gas', class: 'full', first: 'chart', every_ms: 10_000,
  question: () => (scope() === 'hours'
    ? { name: 'gas_hours', parameters: { hours: 48 } }
    : { name: 'gas_days', parameters: { days: 60 } }),
  controls: () => [
    choice('Span', SCOPES, scope(), (key) => set({ 'gas.scope': key === 'hours' ? null : key })),
    choice('Measure', MEASURES, measure(), (key) =>
      set({ 'gas.measure': key === 'base' ? null : key })),
  ],
  empty: ({ rows }) => (rows.length ? null : `nothing yet: no ${scope() === 'hours'
    ? 'hour of the last 48 has' : 'day of the last 60 has'} all of its blocks stored`),
  lead: ({ rows }) => (rows.some(({ complete }) => complete === 0)
    ? element('p', {}, `Not every block of ${rows.length === 1 ? 'this' : 'the newest'} ` +
      `${scope() === 'hours' ? 'hour' : 'day'} is stored yet: its sums are so far.`) : []),
  depends: measure,
  views: {
    chart: chart(({ rows }) => drawn(rows)),
    table: ({ rows }, comments) => table({
      caption: `Gas by ${scope() === 'hours' ? 'hour' : 'day'}`, comments,
      rows: [...rows].sort((a, b) => (start(a) < start(b) ? 1 : -1)),
      columns: [
        { title: scope() === 'hours' ? 'Hour, UTC' : 'Day, UTC', header: true,
          cell: (row) => [when(start(row), { day: scope() === 'days' }),
            row.complete === 0 ? element('span', { class: 'muted' }, ' so far') : null] },
        { name: 'base_fee_min', title: 'Base fee, lowest', number: true, wide: true,
          cell: (row) => price(row.base_fee_min) },
        { name: 'base_fee_50', title: 'Base fee, median', number: true,
          cell: (row) => price(row.base_fee_50) },
        { name: 'base_fee_max', title: 'Base fee, highest', number: true, wide: true,
          cell: (row) => price(row.base_fee_max) },
        { name: 'tip_50', title: 'Tip, median', number: true, cell: (row) => price(row.tip_50) },
        { name: 'burnt', title: 'Burnt, ETH', number: true,
          cell: (row) => amount(amountOf(row, 'burnt'), 'ETH') },
        { name: 'tips', title: 'Tips, ETH', number: true, wide: true,
          cell: (row) => amount(amountOf(row, 'tips'), 'ETH') },
        { name: 'utilisation', title: 'Use', number: true, wide: true,
          cell: (row) => percent(row.utilisation) },
        { name: 'transaction_count', title: 'Transactions', number: true, wide: true,
          cell: (row) => count(row.transaction_count) },
        { name: 'blob_count', title: 'Blobs', number: true, wide: true,
          cell: (row) => count(row.blob_count) },
        { name: 'first_block', title: 'From block', number: true, wide: true,
          cell: (row) => block(row.first_block) },
      ],
    }),
  },
});
