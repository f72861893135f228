/** What is known of each asset: ether, and the tokens that the server lists. */

import { ask, panelPath, rowsOf } from './api.js';
import { shortened, shown } from './text.js';

const ETHER = { symbol: 'ETH', decimals: 18 };
let tokens = new Map();

/** Fetches the tokens; true if something changed. */
export async function learnAssets() {
  const body = await ask(panelPath('tokens', { limit: 100 }));
  const before = JSON.stringify([...tokens]);
  tokens = new Map(rowsOf(body).map((row) => [row.asset ?? row.token_address, row]));
  return before !== JSON.stringify([...tokens]);
}

/** The decimals and unit of an asset. Without decimals, amounts are in its smallest unit. */
export function unitOf(asset) {
  if (asset === 'ETH' || !asset) return ETHER;
  const { symbol, decimals } = tokens.get(asset) ?? {};
  const known = Number.isInteger(decimals) && decimals >= 0 && decimals <= 255;
  const name = symbol ? shown(symbol).slice(0, 24) : shortened(asset);
  return { symbol: known ? name : `smallest units of ${name}`, decimals: known ? decimals : 0 };
}

/** What an asset is called where there is little room. */
export function nameOf(asset) {
  if (asset === 'ETH') return 'ETH';
  const symbol = tokens.get(asset)?.symbol;
  return symbol ? shown(symbol).slice(0, 24) : shortened(asset);
}

/** The assets there are to choose from, `[asset, name]`; the one in use is always among them. */
export function choices(inUse) {
  const all = ['ETH', ...tokens.keys()];
  if (!all.includes(inUse)) all.push(inUse);
  return all.map((asset) => {
    const symbol = asset === 'ETH' ? null : tokens.get(asset)?.symbol;
    return [asset, symbol ? `${nameOf(asset)} · ${shortened(asset)}` : nameOf(asset)];
  });
}
