/** Elements without markup: text is only ever text. */

/** An element with attributes (`class`, `href`, …; null leaves one out) and children. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Puts text on the clipboard, and says so on the button for a moment. */
export async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Not allowed';
  }
  setTimeout(() => (button.textContent = before), 1200);
}

/** A button that copies `text`; `what` completes its name for screen readers. */
export function copyButton(text, what) {
  return element('button', {
    type: 'button', class: 'quiet', 'aria-label': `Copy ${what}`, title: `Copy ${what}`,
    onclick: (event) => copy(text, event.currentTarget),
  }, 'Copy');
}

/** A row of buttons of which one is pressed: a period, a measure, an asset. */
export function choice(label, options, chosen, choose) {
  return element('div', { class: 'choice', role: 'group', 'aria-label': label },
    options.map(([value, text]) => element('button', {
      type: 'button', 'aria-pressed': String(value === chosen), 'data-choice': value,
      onclick: () => choose(value),
    }, text)));
}

/** Says something to screen readers, at most once in 20 seconds; the newest wins. */
export function announce(text) {
  waiting = text;
  if (timer) return;
  const speak = () => {
    timer = null;
    if (!waiting) return;
    document.getElementById('announcements').textContent = waiting;
    waiting = null;
    timer = setTimeout(speak, 20_000);
  };
  speak();
}
let waiting = null;
let timer = null;
