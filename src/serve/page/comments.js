/** The meaning of each panel's columns, from the server: the titles of column headers. */

import { ask } from './api.js';

let panels = new Map();

/** Fetches the list of panels. */
export async function learnComments() {
  const { panels: list } = await ask('panels');
  panels = new Map(list.map(({ name, columns }) => [
    name, Object.fromEntries(columns.map((column) => [column.name, column.comment])),
  ]));
}

/** Column → comment of a panel. */
export const comments = (panel) => panels.get(panel) ?? {};
