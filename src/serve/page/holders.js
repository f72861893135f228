/** The largest holders among those whose balance is known, and how much that is. */

import { amountOf, approximate, grouped } from './amounts.js';
import { nameOf, unitOf } from './assets.js';
import { bars } from './bars.js';
import { amount, block, percent, who } from './cells.js';
import { element } from './dom.js';
import { get } from './state.js';
import { table } from './table.js';

const asset = () => get('asset', 'ETH');
const SHOWN_IN_CHART = 20;

export const holders = () => ({
  id: 'holders', title: 'Top holders', class: 'narrow', every_ms: 4000,
  question: () => ({
    name: 'whales', parameters: { asset: asset() }, also: { coverage: ['whales_coverage', {}] },
  }),
  empty: ({ rows }) => (rows.length ? null
    : `nothing yet: the node has not reported a balance of ${nameOf(asset())}`),
  lead: ({ also }) => element('p', {}, known(also.coverage)),
  views: {
    chart: (place, { rows }) => {
      place.append(bars({
        label: `Balances of the largest holders of ${nameOf(asset())}`,
        rows: rows.slice(0, SHOWN_IN_CHART).map((row) => ({
          label: who(row.address, row.label),
          value: approximate(amountOf(row, 'balance') ?? 0n, unitOf(asset()).decimals),
          text: amount(amountOf(row, 'balance'), asset()),
        })),
      }));
      return null;
    },
    table: ({ rows }, comments) => table({
      caption: `The largest known holders of ${nameOf(asset())}`, rows, comments,
      columns: [
        { name: 'rank', title: '#', number: true, cell: (row) => row.rank },
        { name: 'label', title: 'Holder', header: true,
          cell: (row) => who(row.address, row.label) },
        { name: 'balance', title: unitOf(asset()).symbol, number: true,
          cell: (row) => [amount(amountOf(row, 'balance'), asset()),
            element('span', { class: 'phone' }, change(row))] },
        { name: 'share', title: 'Share', number: true, cell: (row) => percent(row.share) },
        { name: 'change_24h', title: '24 h', number: true, wide: true, cell: change },
        { name: 'last_block', title: 'Last move', number: true, wide: true,
          cell: (row) => block(row.last_block) },
      ],
    }),
  },
});

const change = (row) => amount(amountOf(row, 'change_24h'), asset(), { sign: true });

function known(coverage) {
  const row = coverage.find((one) => one.asset === asset());
  if (!row) return `No balance of ${nameOf(asset())} is known yet.`;
  const holders = row.address_count === 1 ? '1 address' : `${grouped(row.address_count)} addresses`;
  const since = row.since_block === null || row.since_block === undefined
    ? ', but not the balances that the newest blocks changed'
    : ` since block ${grouped(row.since_block)}`;
  return row.share === null || row.share === undefined
    ? `Knows the balances of ${holders}${since}. The supply is not known, so there are no shares.`
    : `Knows ${row.share} % of the supply${since}: ${holders}.`;
}
