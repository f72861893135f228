// Prints the block that the page's transfers are as of, and when it showed them: newest.mjs URL

import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

const modules = process.env.SPYHOP_PAGE_MODULES ?? join(homedir(), '.cache/spyhop/page');
const puppeteer = (await import(createRequire(join(modules, 'from')).resolve('puppeteer-core'))).default;
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'],
});
process.on('SIGTERM', () => browser.close().then(() => process.exit(0)));
const tab = await browser.newPage();
await tab.exposeFunction('shown', (block, at) => console.log(block, at / 1000));
await tab.goto(process.argv[2]);
await tab.evaluate(() => {
  let last;
  const look = () => {
    const text = document.querySelector('#transfers')?.textContent ?? '';
    const number = text.match(/as of block ([0-9\s,.\u202f]+),/)?.[1].replace(/\D/g, '');
    if (number && number !== last) window.shown(last = number, Date.now());
  };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
  look();
});
