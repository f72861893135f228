/**
 * Transfers that a reorganisation undid. The published file no longer has them, but a reader who
 * saw one is owed the news: it stays on the page, struck through, with the reason.
 */

import { counted } from './text.js';

const SEEN_MAX = 1000;

/** Reorganisations by their first dropped block: `{ fork_block, depth, hashes, at }`. */
const reorgs = new Map();

/** Transfers seen on this page: identity → `{ row, at }`. `at` counts what happened. */
const seen = new Map();
let clock = 0;

/** Takes note of reorganisations; returns those that are new. */
export function learnReorgs(list) {
  const news = list.filter(({ old_hashes }) => old_hashes?.length && !reorgs.has(old_hashes[0]));
  for (const { fork_block, depth, old_hashes } of news) {
    reorgs.set(old_hashes[0], {
      fork_block, depth: depth ?? old_hashes.length, hashes: new Set(old_hashes), at: ++clock,
    });
  }
  return news;
}

/** Remembers rows that were shown. */
export function remember(rows) {
  clock += 1;
  for (const row of rows) {
    const key = identity(row);
    seen.delete(key);
    seen.set(key, { row, at: clock });
  }
  for (const key of seen.keys()) {
    if (seen.size <= SEEN_MAX) break;
    seen.delete(key);
  }
}

/** The rows of an answer that still count: if its chain was dropped, those up to the fork. */
export function standing(rows, published) {
  let standing = rows;
  for (const { fork_block, hashes } of reorgs.values()) {
    if (hashes.has(published?.hash)) {
      standing = standing.filter((row) => row.block_number <= fork_block);
    }
  }
  return standing;
}

/** The transfers of an asset that were seen and undone, not older than `lowest`: row → reason. */
export function undone(rows, asset, lowest) {
  const standing = new Set(rows.map(identity));
  const reasons = new Map();
  for (const [key, { row, at }] of seen) {
    if (row.asset !== asset || row.block_number < lowest || standing.has(key)) continue;
    const reorg = [...reorgs.values()].find((one) => one.at > at && drops(one, row));
    if (reorg) reasons.set(row, reason(row, reorg, rows));
  }
  return reasons;
}

/** What makes a transfer the same one. */
export function identity(row) {
  return [row.block_number, row.asset, row.transaction_hash, row.transfer_index, row.batch_index,
    row.from_address, row.to_address].join('/');
}

const drops = ({ fork_block, depth, hashes }, { block_number, block_hash }) => (block_hash
  ? hashes.has(block_hash) : block_number > fork_block && block_number <= fork_block + depth);

function reason(row, { fork_block, depth }, rows) {
  const again = row.transaction_hash &&
    rows.find((one) => one.transaction_hash === row.transaction_hash);
  const since = again ? ` The transaction is in block ${again.block_number} now.` : '';
  return `Undone by a reorganisation: ${counted(depth, 'block')} after block ` +
    `${fork_block.toLocaleString('en-US')} dropped.${since}`;
}
