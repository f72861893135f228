/** Times: UTC first, the local one beside; ages by the server's clock, not the browser's. */

import { element } from './dom.js';

let ahead = 0;

/** Learns from a `Date` header how far the server's clock is ahead. It has whole seconds only. */
export function learnClock(header) {
  const difference = Date.parse(header) - Date.now();
  if (Number.isFinite(difference)) ahead = Math.abs(difference) > 2000 ? difference : 0;
}

/** Now, by the server's clock, in milliseconds. */
export const now = () => Date.now() + ahead;

/** `12 s`, `3 min`, `4 h`, `2 days`: one unit, rounded down. */
export function span(seconds) {
  if (seconds < 0) return '0 s';
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

/** A time as an element: UTC, and the local time beside it where they differ. */
export function when(text, { day = false } = {}) {
  if (text === null || text === undefined) return '';
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return element('span', {}, String(text));
  const iso = moment.toISOString();
  const [date, clock] = [iso.slice(0, 10), iso.slice(11, 19)];
  const today = new Date(now()).toISOString().slice(0, 10) === date;
  const utc = day ? date : today ? clock : `${date} ${clock}`;
  const local = moment.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
  const time = element('time', { datetime: iso, title: `${date} ${clock} UTC · ${local} local` });
  time.append(utc);
  const beside = moment.getTimezoneOffset() === 0 || day ? null : localBeside(moment, date);
  return beside ? element('span', { class: 'when' }, time, beside) : time;
}

/** Both times in full, for the pages of one thing. */
export function whenInFull(text) {
  if (!text) return '';
  const moment = new Date(text);
  const utc = `${moment.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
  const beside = moment.getTimezoneOffset() === 0 ? null : localBeside(moment, utc.slice(0, 10));
  return element('span', {}, element('time', { datetime: moment.toISOString() }, utc), ' ',
    element('span', { class: 'local' }, beside ? ['(', beside, ' local), '] : null, age(text)));
}

/** How long ago, kept up to date by `tick`. */
export function age(text, suffix = ' ago') {
  const since = Date.parse(text);
  const shown = element('span', { class: 'age', 'data-since': since, 'data-suffix': suffix });
  tell(shown);
  return shown;
}

/** Brings every age on the page up to date. */
export function tick() {
  for (const shown of document.querySelectorAll('[data-since]')) tell(shown);
}

function tell(shown) {
  const text = span((now() - Number(shown.dataset.since)) / 1000) + shown.dataset.suffix;
  if (shown.textContent !== text) shown.textContent = text;
}

function localBeside(moment, utcDate) {
  const pad = (number) => String(number).padStart(2, '0');
  const clock = [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(pad).join(':');
  const date = [moment.getFullYear(), pad(moment.getMonth() + 1), pad(moment.getDate())].join('-');
  const text = date === utcDate ? clock : `${date.slice(5)} ${clock}`;
  return element('span', { class: 'local' }, text);
}
