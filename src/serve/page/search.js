/** Search: one exact match is shown at once, several are listed. */

import { Failure, ask, panelPath, rowsOf } from './api.js';
import { hex } from './cells.js';
import { element } from './dom.js';
import { go, link } from './state.js';
import { table } from './table.js';
import { lines, shown } from './text.js';

/** Follows the form in the header, and `/` as the key that goes there. */
export function startSearch() {
  const form = document.getElementById('search');
  const field = document.getElementById('q');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (text) go(link({ q: text }));
  });
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest?.('input, textarea, select');
    if (event.key !== '/' || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
}

/** `{ title, nodes, panels }`: what was found. */
export function searchPage(text) {
  const place = element('section', { class: 'panel full', 'aria-live': 'polite' },
    element('p', { class: 'words loading' }, 'searching…'));
  const abort = new AbortController();
  find(text, place, abort.signal);
  return {
    title: `Search: ${text}`,
    nodes: [element('div', { class: 'subject' }, element('h1', {}, 'Search: ',
      element('bdi', {}, shown(text)))), place],
    panels: [{ published() {}, destroy: () => abort.abort() }],
  };
}

async function find(text, place, signal) {
  try {
    const rows = rowsOf(await ask(panelPath('search', { q: text }), { signal }));
    if (rows.length === 1 && rows[0].kind !== 'token' && rows[0].kind !== 'label') {
      go(target(rows[0]), { replace: true });
      return;
    }
    place.replaceChildren(rows.length ? list(rows) : element('p', { class: 'words empty' },
      'Nothing is stored under this: give a block number, a whole hash or address, ' +
      'or part of a label or token symbol.'));
  } catch (error) {
    if (error.name === 'AbortError') return;
    const refused = error instanceof Failure && error.status === 400;
    place.replaceChildren(
      element('p', { class: `words ${refused ? 'empty' : 'failed'}` }, lines(error.message)),
      refused ? '' : element('button', {
        type: 'button', onclick: () => find(text, place, signal),
      }, 'Try again'));
  }
}

const target = ({ kind, key }) =>
  kind === 'block' || kind === 'transaction' ? link({ [kind]: key }) : link({ address: key });

function list(rows) {
  const found = table({
    caption: 'What was found', rows,
    columns: [
      { title: 'Kind', cell: (row) => row.kind },
      { title: 'Name', header: true, cell: (row) =>
        element('a', { href: target(row) }, element('bdi', {}, shown(row.title ?? row.key))) },
      { title: 'Key', cell: (row) => hex(row.key) },
      { title: 'See also', cell: (row) => (row.kind === 'token'
        ? element('a', { href: link({ asset: row.key }) }, 'holders and flows') : '—') },
    ],
  });
  return element('div', {
    class: 'view', tabindex: '0', role: 'region', 'aria-label': 'Found',
  }, found);
}
