/**
 * A panel: a question and its answer as chart, table, SQL and CSV. It is in one of five states,
 * each said in words: `loading`, `ready`, `empty`, `stale` (an older answer is shown, and why) and
 * `failed`. It asks again when a newer file is published, if it is on screen.
 */

import { ask, panelPath, rowsOf, save, server, token } from './api.js';
import { comments } from './comments.js';
import { copyButton, element } from './dom.js';
import { grouped } from './amounts.js';
import { get, set, subscribe } from './state.js';
import { tabs } from './tabs.js';
import { lines } from './text.js';
import { plainTable } from './table.js';
import { age } from './times.js';

const RETRY_MIN_MS = 2000;
const RETRY_MAX_MS = 30_000;
const TITLES = { chart: 'Chart', table: 'Table', sql: 'SQL' };

/**
 * `spec`: `id`, `title`, `question()` → `{ name, parameters, also: { key: [name, parameters] } }`,
 * `views` → `{ chart?: { draw(place, data), update? }, table?: (data) => node }`, `empty(data)` →
 * words or null, `lead(data)` → nodes above the view, `controls()` → nodes beside the title,
 * `whole`: the answer should have every row, so say if it has not, `titles`: other names of tabs,
 * `depends()` → what else the views depend on, `answered(data, panel)`: called with each answer,
 * `every_ms`: ask at most this often, `first`: the view shown first.
 */
export class Panel {
  constructor(spec) {
    this.spec = { first: 'table', every_ms: 2000, views: {}, titles: {}, ...spec };
    this.retry_ms = RETRY_MIN_MS;
    this.build();
    const changed = () => this.changed();
    this.stop = [subscribe(changed)];
    this.screen = new IntersectionObserver(([entry]) => {
      this.visible = entry.isIntersecting;
      if (this.visible && this.dirty) this.refresh();
    }, { rootMargin: '200px' });
    this.screen.observe(this.element);
    this.changed();
  }

  build() {
    const { id, title, views, first } = this.spec;
    const keys = ['chart', 'table', 'sql'].filter((key) => key !== 'chart' || views.chart);
    this.keys = keys;
    this.first = keys.includes(first) ? first : 'table';
    const choose = (key) => set({ [`${id}.view`]: key === this.first ? null : key });
    this.tabs = tabs({
      id, label: `${title}: view`, choose,
      views: keys.map((key) => [key, this.spec.titles[key] ?? TITLES[key]]),
    });
    this.csv = element('a', {
      class: 'csv', download: `${id}.csv`, 'aria-label': `${title} as CSV`,
      onclick: (event) => this.saveCsv(event),
    }, 'CSV');
    this.lead = element('div', { class: 'lead' });
    this.controls = element('div', { class: 'controls' });
    this.view = element('div', {
      class: 'view', role: 'tabpanel', id: `${id}-view`, tabindex: '0',
    });
    this.note = element('p', { class: 'note' });
    this.element = element('section', {
      class: `panel ${this.spec.class ?? ''}`, id, 'aria-labelledby': `${id}-title`,
    },
    element('div', { class: 'top' },
      element('h2', { id: `${id}-title` }, title),
      element('div', { class: 'views' }, this.tabs.list, this.csv)),
    this.controls, this.lead, this.view, this.note);
  }

  /** The address of the page changed, or this is new. */
  changed() {
    const chosen = get(`${this.spec.id}.view`);
    const view = this.keys.includes(chosen) ? chosen : this.first;
    const question = this.spec.question();
    const path = panelPath(question.name, question.parameters);
    const asked = JSON.stringify(question);
    const digits = JSON.stringify([get('digits'), this.spec.depends?.()]);
    if (asked !== this.asked) {
      this.asked = asked;
      this.question = question;
      this.data = null;
      this.csv.href = `api/v1/${panelPath(question.name, question.parameters, 'csv')}`;
      this.path = path;
      this.shown = null;
      this.view_ = view;
      this.state('loading');
      this.render();
      this.refresh();
    } else if (view !== this.view_ || digits !== this.digits) {
      this.view_ = view;
      this.shown = null;
      this.render();
    }
    this.digits = digits;
    this.tabs.select(view);
    this.view.setAttribute('aria-labelledby', `${this.spec.id}-tab-${view}`);
  }

  /** A newer file is published: asks now, or as soon as it is on screen and not too soon. */
  published() {
    this.dirty = true;
    if (this.isLost) {
      this.isLost = false;
      this.state(this.emptyWords() ? 'empty' : 'ready');
      this.renderNote();
    }
    if (this.visible && !document.hidden) this.soon(this.spec.every_ms - (Date.now() - this.at));
  }

  /** The server is gone: what is shown is from before. `published` follows when it is back. */
  lost(words) {
    if (!this.data) return;
    this.isLost = true;
    this.failure = new Error(words);
    this.state('stale');
    this.renderNote();
  }

  soon(wait_ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), Math.max(0, wait_ms));
  }

  async refresh() {
    clearTimeout(this.timer);
    this.abort?.abort();
    const abort = (this.abort = new AbortController());
    this.at = Date.now();
    this.dirty = false;
    const also = Object.entries(this.question.also ?? {});
    try {
      const [body, ...others] = await Promise.all([
        ask(this.path, { signal: abort.signal }),
        ...also.map(([, [name, parameters]]) =>
          ask(panelPath(name, parameters), { signal: abort.signal })),
      ]);
      this.retry_ms = RETRY_MIN_MS;
      this.answered(body, Object.fromEntries(also.map(([key], at) => [key, rowsOf(others[at])])));
    } catch (error) {
      if (abort.signal.aborted) return;
      this.failed(error);
    }
  }

  answered(body, also) {
    this.isLost = false;
    const same = this.data?.body === body && this.state_ !== 'stale' &&
      JSON.stringify(also) === JSON.stringify(this.data.also);
    this.data = same ? this.data : { body, rows: rowsOf(body), also };
    this.spec.answered?.(this.data, this);
    this.state(this.emptyWords() ? 'empty' : 'ready');
    if (!same) this.render();
  }

  failed(error) {
    this.isLost = false;
    this.failure = error;
    const transient = error.status === undefined || error.status === 0 || error.status >= 429;
    if (error.status === 503 && !this.data) this.state('empty');
    else this.state(this.data ? 'stale' : 'failed');
    this.render();
    if (!transient) return;
    this.soon(error.retryAfter_s ? error.retryAfter_s * 1000 : this.retry_ms);
    this.retry_ms = Math.min(this.retry_ms * 2, RETRY_MAX_MS);
  }

  state(state) {
    this.state_ = state;
    this.element.dataset.state = state;
    this.element.setAttribute('aria-busy', String(state === 'loading'));
    if (state === 'ready' || state === 'empty') this.failure = this.data ? null : this.failure;
  }

  emptyWords() {
    if (!this.data) return null;
    if (this.spec.empty) return this.spec.empty(this.data);
    return this.data.rows.length ? null : 'nothing yet';
  }

  /** Shows the newest data, but not under a selection that the reader is about to copy. */
  render() {
    const selection = getSelection();
    if (this.shown && !selection.isCollapsed && this.view.contains(selection.anchorNode)) {
      clearTimeout(this.later);
      this.later = setTimeout(() => this.render(), 3000);
      return;
    }
    const above = [this.controls, this.lead].map(focusIn);
    this.controls.replaceChildren(...[this.spec.controls?.() ?? []].flat());
    this.lead.replaceChildren(...(this.data ? [this.spec.lead?.(this.data) ?? []].flat() : []));
    for (const focus of above) focus();
    this.renderNote();
    const key = this.data && !(this.view_ !== 'sql' && this.emptyWords()) ? this.view_ : 'words';
    if (key === this.shown && key === 'chart' && this.drawn?.update) {
      return this.drawn.update(this.data);
    }
    const focus = focusIn(this.view);
    this.drawn?.destroy?.();
    this.drawn = null;
    this.view.replaceChildren();
    this.shown = key;
    if (key === 'words') this.view.append(this.words());
    else if (key === 'sql') this.view.append(...this.sql());
    else if (key === 'chart') this.drawn = this.spec.views.chart(this.view, this.data);
    else this.view.append(this.tableOrPlain());
    focus();
  }

  tableOrPlain() {
    const { title, views } = this.spec;
    const known = comments(this.question.name);
    return views.table?.(this.data, known) ?? plainTable(title, this.data.body, known);
  }

  words() {
    if (this.data) return element('p', { class: 'words empty' }, this.emptyWords());
    if (!this.failure) return element('p', { class: 'words loading' }, 'loading…');
    if (this.state_ === 'empty') {
      return element('p', { class: 'words empty' }, lines(this.failure.message));
    }
    return element('div', { class: 'words failed' },
      element('p', {}, `failed: ${lines(this.failure.message)}`),
      element('button', { type: 'button', onclick: () => this.again() }, 'Try again'));
  }

  /** Shows the same data again: a symbol or a column's meaning has become known. */
  redraw() {
    this.shown = null;
    this.render();
  }

  /** Asks again after a failure. */
  again() {
    this.failure = null;
    this.state('loading');
    this.render();
    this.refresh();
  }

  renderNote() {
    const published = this.data?.body.published;
    const parts = [];
    if (published) {
      parts.push(`as of block ${grouped(published.block)}, `, age(published.timestamp, ' old'));
      const cut = this.spec.whole && this.data.body.truncated;
      if (cut) parts.push(' · cut: there is more than is shown');
    }
    if (this.data && this.failure) {
      const why = server.reachable === false ? 'the server does not answer' : this.failure.message;
      parts.push(element('strong', {}, ` · not refreshed: ${lines(why)}; trying again`));
    }
    this.note.replaceChildren(...parts);
  }

  sql() {
    const { sql } = this.data.body;
    return [
      element('div', { class: 'aside' },
        element('span', {}, 'Gives these rows in ',
          element('code', {}, 'duckdb -readonly spyhop.duckdb'), ' in the data directory. '),
        copyButton(sql, `the SQL of ${this.spec.title}`)),
      element('pre', {}, element('code', {}, lines(sql))),
    ];
  }

  async saveCsv(event) {
    if (!token()) return;
    event.preventDefault();
    const { name, parameters } = this.question;
    await save(panelPath(name, parameters, 'csv'), `${this.spec.id}.csv`).catch((error) => {
      this.note.textContent = `CSV: ${error.message}`;
    });
  }

  destroy() {
    for (const stop of this.stop) stop();
    this.screen.disconnect();
    clearTimeout(this.timer);
    clearTimeout(this.later);
    this.abort?.abort();
    this.drawn?.destroy?.();
  }
}

/** Remembers which link or button has the focus, to give it back after the view is replaced. */
function focusIn(view) {
  const active = document.activeElement;
  if (active === view || !view.contains(active)) return () => {};
  const href = active.getAttribute('href');
  const text = active.textContent;
  return () => {
    const all = [...view.querySelectorAll('a, button')];
    const again = all.find((one) => one.getAttribute('href') === href && one.textContent === text);
    (again ?? view).focus({ preventScroll: true });
  };
}
