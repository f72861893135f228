/** Where the page starts: it shows what its address names and follows the server's events. */

import { addressPage } from './address.js';
import { keepToken, token } from './api.js';
import { learnAssets } from './assets.js';
import { blockPage } from './block.js';
import { copyOnClick, everyDigit } from './cells.js';
import { learnComments } from './comments.js';
import { follow } from './events.js';
import { overview } from './overview.js';
import { searchPage, startSearch } from './search.js';
import { get, set, start, subscribe } from './state.js';
import { strip } from './strip.js';
import { tick } from './times.js';
import { transactionPage } from './transaction.js';
import { heard } from './transfers.js';
import { shown } from './text.js';

/** Tokens are asked for again at most this often. */
const ASSETS_EVERY_MS = 30_000;

const main = document.getElementById('main');
let page = null;
let pageKey = null;
let assets_at = 0;

/** Which page the address names, and the function that makes it. */
function wanted() {
  for (const [key, make] of [
    ['address', (value) => addressPage(value.toLowerCase())],
    ['block', blockPage], ['transaction', transactionPage], ['q', searchPage],
  ]) {
    const value = get(key);
    if (value !== null) return [`${key}=${value}`, () => make(value)];
  }
  return ['', overview];
}

function route() {
  const [key, make] = wanted();
  if (key !== pageKey) {
    const first = pageKey === null;
    pageKey = key;
    for (const panel of page?.panels ?? []) panel.destroy();
    page = make();
    main.replaceChildren(...page.nodes);
    document.title = page.title ? `${shown(page.title)} · spyhop` : 'spyhop';
    document.getElementById('q').value = get('q', '');
    if (!first) {
      scrollTo(0, 0);
      main.focus({ preventScroll: true });
    }
    document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }
  page.refresh?.();
  document.getElementById('digits').setAttribute('aria-pressed', String(everyDigit()));
}

async function learn() {
  if (Date.now() - assets_at < ASSETS_EVERY_MS) return;
  assets_at = Date.now();
  try {
    if (!(await learnAssets())) return;
    page.refresh?.();
    for (const panel of page.panels) panel.redraw?.();
  } catch {
    assets_at = 0;
  }
}

function everything() {
  for (const panel of page.panels) panel.published();
}

function startTheme() {
  const button = document.getElementById('theme');
  const dark = () => getComputedStyle(document.documentElement).colorScheme === 'dark' ||
    (!document.documentElement.dataset.theme && matchMedia('(prefers-color-scheme: dark)').matches);
  const show = () => {
    button.textContent = dark() ? 'Light' : 'Dark';
    button.setAttribute('aria-label', `Switch to the ${dark() ? 'light' : 'dark'} theme`);
    dispatchEvent(new CustomEvent('spyhop:theme'));
  };
  button.addEventListener('click', () => {
    const theme = dark() ? 'light' : 'dark';
    document.documentElement.dataset.theme = theme;
    localStorage.setItem('spyhop.theme', theme);
    show();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show);
  show();
}

function startToken() {
  const dialog = document.getElementById('token');
  const field = document.getElementById('token-field');
  addEventListener('spyhop:unauthorized', () => {
    // The SQL box asks for the token itself.
    if (dialog.open || document.activeElement?.closest('#sql')) return;
    document.getElementById('token-wrong').hidden = !token();
    dialog.showModal();
  });
  dialog.querySelector('form').addEventListener('submit', (event) => {
    event.preventDefault();
    keepToken(field.value.trim());
    dialog.close();
    assets_at = 0;
    for (const panel of page.panels) panel.again?.();
    learnComments().catch(() => {});
    learn();
  });
}

start();
startTheme();
startToken();
startSearch();
copyOnClick();
document.getElementById('digits').addEventListener('click', () =>
  set({ digits: everyDigit() ? null : 'all' }));
subscribe(route);
route();
const status = strip();
learnComments().catch(() => {});
learn();
follow({
  heard(name, data) {
    if (name === 'status') status();
    if (name !== 'published' || !data) return;
    heard(data);
    everything();
    status();
    learn();
  },
  connected() {
    status();
    everything();
  },
  lost(words) {
    for (const panel of page.panels) panel.lost?.(words);
  },
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) everything();
});
setInterval(tick, 1000);
