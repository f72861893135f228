/**
 * The status strip: the node, this spyhop, and what is stored; and one sentence on how things are.
 * Whatever keeps the page from being current is said here, once.
 */

import { ask, panelPath, rowsOf, server } from './api.js';
import { grouped } from './amounts.js';
import { element } from './dom.js';
import { link } from './state.js';
import { learnSql } from './sql.js';
import { counted, shown } from './text.js';
import { age, now, span } from './times.js';

const EVERY_MS = 4000;
/** A head older than this is worth a word; mainnet makes a block every 12 s. */
const OLD_HEAD_S = 120;
/** A published file older than this, while the node is ahead, is worth a word too. */
const OLD_FILE_S = 60;
/** Behind the node by more blocks than this is catching up. */
const LAG_BLOCKS = 5;
const CHAINS = {
  1: 'Mainnet', 11155111: 'Sepolia', 17000: 'Holesky', 560048: 'Hoodi', 100: 'Gnosis',
  1337: 'development chain',
};

let status = null;
let blocks = [];
let received = null;
/** Why the server refused to say how things are, or null. */
let refused = null;

/** Starts the strip; returns `refresh`, to be called at each event. */
export function strip() {
  const cells = document.getElementById('status');
  const banner = document.getElementById('banner');
  let timer = null;
  const show = () => {
    cells.replaceChildren(...entries().map(([name, value, title]) =>
      element('div', { title }, element('dt', {}, name), element('dd', {}, value))));
    const [level, words] = sentence();
    if (banner.textContent !== words) banner.textContent = words;
    document.body.dataset.level = banner.dataset.level = level;
    document.title = document.title.replace(/^(⚠ )?/, level === 'bad' ? '⚠ ' : '');
  };
  const refresh = async () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, EVERY_MS);
    if (document.hidden) return;
    try {
      status = await ask('status');
      received = now();
      refused = null;
      learnSql(status.sql);
      if (status.published) blocks = rowsOf(await ask(panelPath('coverage')))
        .filter(({ table_name }) => table_name === 'blocks');
    } catch (error) {
      refused = error.message;
    }
    show();
  };
  addEventListener('spyhop:reachable', show);
  document.addEventListener('visibilitychange', () => document.hidden || refresh());
  setInterval(() => status && show(), 1000);
  refresh();
  return refresh;
}

/** The newest published block, or null. */
export const newest = () => status?.published ?? null;

/** `[level, words]`: `good`, `busy`, `warn` or `bad`. */
function sentence() {
  const last = received === null ? '' : ` Last update ${span((now() - received) / 1000)} ago.`;
  if (server.reachable === false) {
    return ['bad', `The server does not answer; trying again.${last}`];
  }
  if (refused) return ['bad', `The server has no status: ${shown(refused)}; trying again.${last}`];
  if (!status) return ['busy', 'Asking the server…'];
  const { head, paused, published, unhealthy, writer_alive } = status;
  const updated = published
    ? `Last update ${span(published.age_s + (now() - received) / 1000)} ago`
    : 'Nothing is published yet';
  const state = shown(status.state ?? "waiting for the node's first block");
  if (!writer_alive) return ['bad', `${updated}: the writer is not running.`];
  if (unhealthy) return ['bad', `${updated}: ${shown(unhealthy)}.`];
  if (!published) return ['busy', `Nothing yet: ${state}.`];
  if (state.startsWith('waiting')) return ['warn', `W${state.slice(1)}.`];
  if (!head) return ['busy', "Waiting for the node's first block."];
  if (paused) return ['warn', `Building is paused: ${shown(paused)}.`];
  const [level, words] = following(updated, state);
  return [level, words + building()];
}

/** The same when the writer runs and knows the node's head. */
function following(updated, state) {
  const { head, lag_blocks, published } = status;
  const old_s = headAge(status);
  if (old_s > OLD_HEAD_S) {
    return ['warn', `The node's newest block is ${span(old_s)} old: is the node in sync?`];
  }
  if (lag_blocks > LAG_BLOCKS) {
    return ['busy', `Catching up: ${counted(lag_blocks, 'block')} behind the node.`];
  }
  if (published.age_s > OLD_FILE_S && head.block > published.block) {
    return ['warn', `${updated}: the node is at block ${grouped(head.block)}.`];
  }
  return ['good', `Following the node: ${state}.`];
}

function building() {
  const { building } = status;
  if (!building) return '';
  const left = building.eta_s === null ? 'time left ' : '';
  return ` Building history: ${building.done_percent} % done, ${left}${eta(building)}.`;
}

function headAge({ head }) {
  return head.timestamp ? (now() - Date.parse(head.timestamp)) / 1000 : head.lag_s ?? 0;
}

function entries() {
  if (!status) return [['Server', 'no answer yet']];
  const { head, published, lag_blocks, building } = status;
  const at = (number) => element('a', { href: link({ block: number }) }, grouped(number));
  const [stored, title] = share();
  return [
    ['Chain', CHAINS[status.chain_id] ?? `chain ${status.chain_id ?? '—'}`,
      `id ${status.chain_id}`],
    ["Node's head", head ? at(head.block) : "waiting for the node's first block"],
    ['Node lag', head ? `${span(head.lag_s ?? 0)}` : '—', 'age of the head when it was last seen'],
    ['Our lag', lag_blocks === null ? '—' : counted(lag_blocks, 'block'),
      "blocks between the node's head and the newest stored"],
    ['Published', published ? [at(published.block), ', ', age(published.timestamp, ' old')]
      : 'nothing yet'],
    ['Blocks stored', stored, title],
    building ? ['Building', `${grouped(Math.round(building.blocks_per_s ?? 0))} blocks/s`,
      `${grouped(building.left ?? 0)} blocks left`] : null,
    building ? ['Ready in', eta(building), `${building.done_percent} % done`] : null,
  ].filter(Boolean);
}

function share() {
  if (!blocks.length) return ['—', null];
  const size = ({ first_block, last_block }) => last_block - first_block + 1;
  const all = Math.max(...blocks.map(({ last_block }) => last_block)) + 1;
  const held = blocks.filter((row) => row.status === 'held')
    .reduce((sum, row) => sum + size(row), 0);
  const percent = Math.floor((held / all) * 1000) / 10;
  return [`${percent} %`, `${grouped(held)} of ${grouped(all)} blocks`];
}

const eta = ({ eta_s }) =>
  eta_s === null || eta_s === undefined ? 'not known yet' : `about ${span(eta_s)}`;
