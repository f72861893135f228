/** The server's answers: asked with the ETag of what is already here, and with the token if set. */

import { learnClock } from './times.js';

const CACHE_MAX = 120;
const TOKEN = 'spyhop.token';
const cache = new Map();

/** Whether the server answers, and since when it does not (milliseconds), for the status strip. */
export const server = { reachable: null, answered: null };

/** What went wrong, in words. `status` is HTTP's, or 0 if there was no answer. */
export class Failure extends Error {
  constructor(message, status, retryAfter_s = null) {
    super(message);
    this.status = status;
    this.retryAfter_s = retryAfter_s;
  }
}

/** The bearer token of this tab, or null. */
export const token = () => sessionStorage.getItem(TOKEN);

/** Keeps the token until the tab is closed; null forgets it. */
export function keepToken(value) {
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
  dispatchEvent(new CustomEvent('spyhop:token'));
}

/** The address of a panel's answer. */
export function panelPath(name, parameters = {}, format = null) {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined) search.set(key, value);
  }
  if (format) search.set('format', format);
  const text = search.toString();
  return `panels/${name}${text ? `?${text}` : ''}`;
}

/** The rows of an answer as objects. */
export function rowsOf({ columns, rows }) {
  return rows.map((row) => Object.fromEntries(columns.map(({ name }, at) => [name, row[at]])));
}

/** A JSON answer below `api/v1/`. The same object comes back as long as the server says 304. */
export async function ask(path, { signal } = {}) {
  const held = cache.get(path);
  const response = await send(path, {
    signal,
    headers: held ? { 'If-None-Match': held.etag } : {},
  });
  if (response.status === 304 && held) return held.body;
  const body = await response.json();
  const etag = response.headers.get('ETag');
  if (etag) keep(path, { etag, body });
  return body;
}

/** Any request below `api/v1/`; throws a `Failure` unless the answer is 2xx or 304. */
export async function send(path, { headers = {}, ...rest } = {}) {
  const bearer = token();
  let response;
  try {
    response = await fetch(`api/v1/${path}`, {
      ...rest,
      headers: { ...headers, ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}) },
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    reached(false);
    throw new Failure('the server does not answer', 0);
  }
  // A proxy whose server is gone answers in its place.
  reached(response.status !== 502 && response.status !== 504);
  learnClock(response.headers.get('Date'));
  if (response.ok || response.status === 304) return response;
  const retry = Number(response.headers.get('Retry-After')) || null;
  const failure = new Failure(await reason(response), response.status, retry);
  if (response.status === 401) dispatchEvent(new CustomEvent('spyhop:unauthorized'));
  throw failure;
}

/** Saves an answer as a file. A plain link cannot carry the token. */
export async function save(path, name, options = {}) {
  const blob = await (await send(path, options)).blob();
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function reached(reachable) {
  if (reachable) server.answered = Date.now();
  if (server.reachable === reachable) return;
  server.reachable = reachable;
  dispatchEvent(new CustomEvent('spyhop:reachable'));
}

function keep(path, entry) {
  cache.delete(path);
  cache.set(path, entry);
  if (cache.size > CACHE_MAX) cache.delete(cache.keys().next().value);
}

async function reason(response) {
  try {
    return (await response.json()).error ?? `the server answered ${response.status}`;
  } catch {
    return `the server answered ${response.status}`;
  }
}
