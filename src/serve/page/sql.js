/** Free SQL, where the server offers it. It always needs the token. */

import { keepToken, save, send, token } from './api.js';
import { element } from './dom.js';
import { get, set } from './state.js';
import { plainTable } from './table.js';
import { counted, lines } from './text.js';

const EXAMPLE = `SELECT rank, address, label, balance, share
FROM whales WHERE asset = 'ETH' ORDER BY rank LIMIT 10`;

let offered = null;

/** Whether the server takes SQL: true, false, or null if it did not say. */
export function learnSql(value) {
  if (value === offered) return;
  offered = value ?? null;
  dispatchEvent(new CustomEvent('spyhop:sql'));
}

/** What the section is made of. */
function parts() {
  const text = element('textarea', {
    id: 'sql-text', rows: '6', spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off',
    'aria-describedby': 'sql-hint',
  });
  text.value = get('sql', EXAMPLE);
  const bearer = element('input', { id: 'sql-token', type: 'password', autocomplete: 'off' });
  const field = element('div', { class: 'token' },
    element('label', { for: 'sql-token' }, 'Token'), bearer);
  const stop = element('button', { type: 'button', hidden: true }, 'Stop');
  const csv = element('button', { type: 'button' }, 'Save as CSV');
  const form = element('form', { class: 'sql' },
    element('label', { for: 'sql-text' }, 'One SELECT or EXPLAIN'), text,
    element('p', { id: 'sql-hint', class: 'aside' }, 'Ctrl+Enter runs it. Tables and columns: ',
      element('code', {}, 'spyhop schema'), '.'),
    field,
    element('div', { class: 'buttons' },
      element('button', { type: 'submit', class: 'main' }, 'Run'), stop, csv));
  const result = element('div', {
    class: 'view', tabindex: '0', role: 'region', 'aria-label': 'Result',
  });
  const status = element('p', { class: 'note', role: 'status' });
  const off = element('p', { class: 'words empty' },
    'Free SQL is off: start the server with ', element('code', {}, '--sql'), ' to offer it here.');
  const section = element('section', {
    class: 'panel full', id: 'sql', 'aria-labelledby': 'sql-title',
  },
  element('div', { class: 'top' }, element('h2', { id: 'sql-title' }, 'SQL')),
  off, form, status, result);
  return { section, off, form, text, bearer, field, stop, csv, status, result };
}

/** The section, with the shape of a panel. */
export function sqlBox() {
  const { section, off, form, text, bearer, field, stop, csv, status, result } = parts();
  let abort = null;

  const show = () => {
    off.hidden = offered === true;
    form.hidden = result.hidden = status.hidden = offered !== true;
    section.dataset.state = offered === true ? 'ready' : 'empty';
    field.hidden = Boolean(token());
  };
  const request = (signal) => {
    if (bearer.value) keepToken(bearer.value);
    return { method: 'POST', body: text.value, headers: { 'Content-Type': 'text/plain' }, signal };
  };
  const failed = (error) => {
    if (error.name === 'AbortError') status.textContent = 'stopped';
    else result.replaceChildren(element('pre', { class: 'words failed' }, lines(error.message)));
    if (error.name !== 'AbortError') status.textContent = 'failed';
    if (error.status === 401) keepToken(null);
    show();
  };
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    abort?.abort();
    abort = new AbortController();
    set({ sql: text.value }, { replace: get('sql') === null });
    stop.hidden = false;
    status.textContent = 'running…';
    const started = performance.now();
    try {
      const body = await (await send('sql', request(abort.signal))).json();
      const seconds = ((performance.now() - started) / 1000).toFixed(2);
      const cut = body.truncated ? ', cut: there are more' : '';
      status.textContent = `${counted(body.rows.length, 'row')}${cut}, ${seconds} s`;
      result.replaceChildren(plainTable('Result', body));
      show();
    } catch (error) {
      failed(error);
    } finally {
      stop.hidden = true;
    }
  });
  text.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  stop.addEventListener('click', () => abort?.abort());
  csv.addEventListener('click', () =>
    save('sql?format=csv', 'spyhop.csv', request()).catch(failed));
  addEventListener('spyhop:sql', show);
  show();
  return {
    element: section,
    published() {},
    destroy() {
      abort?.abort();
      removeEventListener('spyhop:sql', show);
    },
  };
}
