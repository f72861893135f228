/** Tables: a caption, column headers with the column's meaning as their title, rows. */

import { element } from './dom.js';
import { lines, shown } from './text.js';

const NUMERIC = /^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL|DOUBLE|FLOAT|BIGNUM)/;
const ROWS_MAX = 1000;

/**
 * `columns`: `{ title, cell(row), name?, number?, wide?, header? }`. `name` is the answer's column,
 * whose comment becomes the title; `wide` leaves the column out on a phone; `header` makes it the
 * row's header. `rowClass(row)` may mark a row.
 */
export function table({ caption, columns, rows, comments = {}, rowClass = () => null }) {
  const classes = (column) =>
    [column.number && 'number', column.wide && 'wide'].filter(Boolean).join(' ') || null;
  const head = columns.map((column) => element('th', {
    scope: 'col', class: classes(column), title: comments[column.name],
  }, column.title));
  const body = rows.map((row) => element('tr', { class: rowClass(row) },
    columns.map((column) => element(column.header ? 'th' : 'td', {
      scope: column.header ? 'row' : null, class: classes(column),
    }, [column.cell(row)].flat(2)))));
  return element('table', {},
    element('caption', { class: 'hidden' }, caption),
    element('thead', {}, element('tr', {}, head)),
    element('tbody', {}, body));
}

/** Names and values of one thing: `[name, value, title?]`; what is null is left out. */
export function facts(caption, entries) {
  const rows = entries.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return element('table', { class: 'facts' },
    element('caption', { class: 'hidden' }, caption),
    element('tbody', {}, rows.map(([name, value, title]) => element('tr', {},
      element('th', { scope: 'row', title }, name), element('td', {}, value)))));
}

/** Any answer as it is, every column. */
export function plainTable(caption, body, comments = {}) {
  const columns = body.columns.map(({ name, type }, at) => ({
    name, title: shown(name), number: NUMERIC.test(type), cell: (row) => plain(row[at]),
  }));
  return table({ caption, columns, rows: body.rows.slice(0, ROWS_MAX), comments });
}

/** One row of an answer, every column that has a value, with the columns' meanings. */
export function plainFacts(caption, body, comments = {}) {
  const row = body.rows[0] ?? [];
  return facts(caption, body.columns.map(({ name }, at) =>
    [name, row[at] === null ? null : plain(row[at]), comments[name]]));
}

function plain(value) {
  if (value === null || value === undefined) return element('span', { class: 'muted' }, 'null');
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  return element('span', { class: text.startsWith('0x') ? 'hex plain' : 'plain' }, lines(text));
}
