/** The first page: transfers, holders, flows, gas, tokens, blocks, reorganisations, coverage. */

import { Panel } from './panel.js';
import { transfers } from './transfers.js';
import { holders } from './holders.js';
import { exchanges, flows } from './flows.js';
import { gas } from './gas.js';
import { blocks, coverage, reorgs, tokens } from './chain.js';
import { sqlBox } from './sql.js';
import { choices } from './assets.js';
import { element } from './dom.js';
import { get, set } from './state.js';

/** `{ nodes, panels, refresh() }`. */
export function overview() {
  const select = element('select', {
    id: 'asset', onchange: () => set({ asset: select.value === 'ETH' ? null : select.value }),
  });
  const panels = [transfers, holders, flows, exchanges, gas, tokens, blocks, reorgs, coverage]
    .map((spec) => new Panel(spec()));
  const box = sqlBox();
  const refresh = () => {
    const asset = get('asset', 'ETH');
    const options = choices(asset).map(([value, text]) =>
      element('option', { value, selected: value === asset }, text));
    const texts = (list) => [...list].map(({ text }) => text).join();
    if (texts(options) !== texts(select.options)) select.replaceChildren(...options);
    select.value = asset;
  };
  refresh();
  return {
    title: null,
    nodes: [
      element('h1', { class: 'hidden' }, 'What this node knows'),
      element('div', { class: 'scope' },
        element('label', { for: 'asset' }, 'Asset of transfers, holders and flows'), select),
      element('div', { class: 'grid' }, panels.map((panel) => panel.element), box.element),
    ],
    panels: [...panels, box],
    refresh,
  };
}
