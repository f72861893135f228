/**
 * The state of the page is its address: which page, which tab and parameters of each panel. Back
 * and forward work because every change is an entry of the history.
 */

const listeners = new Set();

/** The value of a key, or `fallback`. */
export function get(key, fallback = null) {
  return new URLSearchParams(location.search).get(key) ?? fallback;
}

/** The link to this page with some keys changed; null removes one. */
export function hrefWith(changes) {
  return link({ ...Object.fromEntries(new URLSearchParams(location.search)), ...changes });
}

/** The link to a page with these keys and no others. */
export function link(keys) {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(keys)) if (value !== null) search.set(key, value);
  const text = search.toString();
  return text ? `?${text}` : './';
}

/** Goes to a link of this page. */
export function go(href, { replace = false } = {}) {
  const url = new URL(href, location.href);
  if (url.href === location.href) return;
  history[replace ? 'replaceState' : 'pushState'](null, '', url);
  changed();
}

/** Changes some keys of this page. */
export const set = (changes, how) => go(hrefWith(changes), how);

/** Calls back after each change; returns the function that stops it. */
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Follows clicks on the page's own links, and back and forward. */
export function start() {
  addEventListener('popstate', changed);
  document.addEventListener('click', (event) => {
    const anchor = event.target.closest?.('a[href]');
    const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    const href = anchor?.getAttribute('href');
    if (!anchor || !plain || event.altKey || anchor.hasAttribute('download')) return;
    if (!href.startsWith('?') && href !== './') return;
    event.preventDefault();
    go(href);
  });
}

function changed() {
  for (const listener of [...listeners]) listener();
}
