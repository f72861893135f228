/** Tabs as the ARIA Authoring Practices describe them: arrow keys move, one is in the tab order. */

import { element } from './dom.js';

/** `views`: `[key, title]`; `choose(key)` is called when one is selected. */
export function tabs({ id, label, views, choose }) {
  const buttons = new Map(views.map(([key, title]) => [key, element('button', {
    type: 'button', role: 'tab', id: `${id}-tab-${key}`, 'aria-controls': `${id}-view`,
    onclick: () => choose(key),
  }, title)]));
  const list = element('div', { role: 'tablist', 'aria-label': label }, [...buttons.values()]);
  list.addEventListener('keydown', (event) => {
    const keys = [...buttons.keys()];
    const at = keys.findIndex((key) => buttons.get(key) === document.activeElement);
    const to = {
      ArrowRight: (at + 1) % keys.length,
      ArrowLeft: (at - 1 + keys.length) % keys.length,
      Home: 0,
      End: keys.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    buttons.get(keys[to]).focus();
    choose(keys[to]);
  });
  const select = (chosen) => {
    for (const [key, button] of buttons) {
      button.setAttribute('aria-selected', String(key === chosen));
      button.tabIndex = key === chosen ? 0 : -1;
    }
  };
  return { list, select };
}
