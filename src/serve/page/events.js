/**
 * The server's events. `EventSource` cannot send a token, so this reads the stream itself: it
 * connects again with `Last-Event-ID`, ever less often, and at once when the browser is back online
 * or the tab is looked at again.
 */

import { Failure, send } from './api.js';

/** The server sends a comment every 15 s; a connection silent for longer than this is dead. */
const SILENCE_MAX_MS = 40_000;
const RETRY_MIN_MS = 1000;
const RETRY_MAX_MS = 15_000;
/** A hidden tab gives its connection back after this: a browser has six for each server. */
const HIDDEN_MAX_MS = 10_000;

/**
 * Calls `heard(name, data)` for each event, `connected()` after each (re)connection, and
 * `lost(words)` when there is none.
 */
export function follow({ heard, connected, lost }) {
  let last = null;
  let wait_ms = RETRY_MIN_MS;
  let wake = null;
  let current = null;

  async function once() {
    current = new AbortController();
    const headers = { Accept: 'text/event-stream', ...(last ? { 'Last-Event-ID': last } : {}) };
    const response = await send('events', { headers, signal: current.signal, cache: 'no-store' });
    wait_ms = RETRY_MIN_MS;
    connected();
    const text = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parse = parser((event) => {
      last = event.id ?? last;
      heard(event.name, event.data);
    });
    for (;;) {
      const silence = setTimeout(() => current.abort(), SILENCE_MAX_MS);
      const { done, value } = await text.read().finally(() => clearTimeout(silence));
      if (done) return;
      parse(value);
    }
  }

  async function forever() {
    for (;;) {
      let least_ms = 0;
      try {
        await once();
        lost('the server does not answer');
      } catch (error) {
        const failure = error instanceof Failure ? error : null;
        if (!document.hidden) lost(failure?.message ?? 'the server does not answer');
        least_ms = failure?.status === 401 ? Infinity : (failure?.retryAfter_s ?? 0) * 1000;
      }
      const pause_ms = Math.max(wait_ms, least_ms) * (0.8 + Math.random() * 0.4);
      wait_ms = Math.min(wait_ms * 2, RETRY_MAX_MS);
      await new Promise((resolve) => {
        wake = resolve;
        if (!document.hidden && Number.isFinite(pause_ms)) setTimeout(resolve, pause_ms);
      });
    }
  }

  const again = () => {
    wait_ms = RETRY_MIN_MS;
    wake?.();
  };
  addEventListener('online', again);
  addEventListener('spyhop:token', () => {
    current?.abort();
    again();
  });
  let hidden = null;
  document.addEventListener('visibilitychange', () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(() => current?.abort(), HIDDEN_MAX_MS);
    else again();
  });
  forever();
}

/** Takes pieces of an event stream and calls back for each event whose data is JSON. */
export function parser(deliver) {
  let rest = '';
  let event = { name: 'message', id: null, data: [] };
  return (piece) => {
    const text = (rest + piece).split(/\r\n|\n|\r(?!$)/);
    rest = text.pop();
    for (const line of text) {
      if (line === '') {
        if (event.data.length) deliver({ ...event, data: decoded(event.data.join('\n')) });
        event = { name: 'message', id: null, data: [] };
        continue;
      }
      const [, field, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
      if (field === 'event') event.name = value;
      else if (field === 'id') event.id = value;
      else if (field === 'data') event.data.push(value ?? '');
    }
  };
}

function decoded(data) {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}
