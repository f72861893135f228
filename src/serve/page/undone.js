/**
 * Transfers that a reorganisation undid. The published file no longer has them, but a reader who saw
 * one is owed the news: it stays on the page, struck through, with the reason.
 */

import { counted } from './text.js';

const KEPT_MAX = 60;

/** Blocks dropped by reorganisations: hash → `{ fork_block, depth }`. */
const dropped = new Map();

/** Transfers seen on this page: identity → row. */
const seen = new Map();

/** Takes note of reorganisations; true if one is new. */
export function learnReorgs(reorgs) {
  let news = false;
  for (const { fork_block, depth, old_hashes } of reorgs) {
    for (const hash of old_hashes ?? []) {
      if (dropped.has(hash)) continue;
      dropped.set(hash, { fork_block, depth: depth ?? old_hashes.length });
      news = true;
    }
  }
  return news;
}

/** Remembers rows that were shown. */
export function remember(rows) {
  for (const row of rows) seen.set(identity(row), row);
  const spare = [...seen.keys()].slice(0, Math.max(0, seen.size - 500));
  for (const key of spare) seen.delete(key);
}

/** Why a row does not count any more, or null. `rows` are those that do. */
export function reason(row, rows) {
  const { fork_block, depth } = dropped.get(row.block_hash) ?? {};
  if (fork_block === undefined) return null;
  const again = rows.find((one) => row.transaction_hash !== null &&
    one.transaction_hash === row.transaction_hash && !dropped.has(one.block_hash));
  const since = again ? ` The transaction is in block ${again.block_number} now.` : '';
  return `Undone by a reorganisation: ${counted(depth, 'block')} after block ` +
    `${fork_block.toLocaleString('en-US')} dropped.${since}`;
}

/** The newest rows with those that were undone among them, newest block first. */
export function merged(rows, asset, limit) {
  const known = new Set(rows.map(identity));
  const lowest = rows.length ? Math.min(...rows.map((row) => row.block_number)) : 0;
  const kept = [...seen.values()].filter((row) => row.asset === asset &&
    row.block_number >= lowest && dropped.has(row.block_hash) && !known.has(identity(row)));
  return [...rows, ...kept.slice(-KEPT_MAX)]
    .sort((a, b) => b.block_number - a.block_number)
    .slice(0, limit + kept.length);
}

/** What makes a transfer the same one. */
export function identity(row) {
  return [row.block_hash ?? row.block_number, row.asset, row.transaction_hash,
    row.transfer_index, row.batch_index].join('/');
}
