// Checks the page in a real Chromium: check.mjs URL [SCREENSHOTS]
//
// The server must run, with data in it. If it offers free SQL, SPYHOP_PAGE_TOKEN is its token. `puppeteer-core` and `axe-core` are looked for in the
// directory that SPYHOP_PAGE_MODULES names; CHROMIUM names the browser. Screenshots of every page,
// width and theme are written into the directory SCREENSHOTS.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const [base, screenshots] = process.argv.slice(2);
if (screenshots) mkdirSync(screenshots, { recursive: true });
assert(base, 'usage: check.mjs URL [SCREENSHOTS]');
const url = new URL('/', base);
const require = createRequire(resolve(process.env.SPYHOP_PAGE_MODULES ?? '.', 'from'));
const puppeteer = (await import(require.resolve('puppeteer-core'))).default;
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const BYTES_MAX = 100_000;
const WAIT_MS = 30_000;
const PANELS = ['transfers', 'holders', 'flows', 'exchanges', 'gas', 'tokens', 'blocks', 'reorgs',
  'coverage'];
/** Panels that any chain with traffic fills. */
const FILLED = ['transfers', 'holders', 'flows', 'blocks', 'coverage'];

let failures = 0;
const complaints = [];
/** Tabs of the check that runs; each holds a connection for events. */
const tabs = [];

async function check(name, body) {
  try {
    const said = await body();
    console.log(`ok    ${name}${said ? `: ${said}` : ''}`);
  } catch (error) {
    failures += 1;
    console.log(`FAIL  ${name}: ${error.message}`);
  }
  while (tabs.length) await tabs.pop().close();
}

await check('all files of the page are under 100 KB compressed', () => {
  const root = fileURLToPath(new URL('../../src/serve/page/', import.meta.url));
  const files = readdirSync(root, { recursive: true }).map((name) => join(root, name))
    .filter((path) => statSync(path).isFile());
  const bytes = files.reduce((sum, path) =>
    sum + gzipSync(readFileSync(path), { level: 9 }).length, 0);
  assert(bytes < BYTES_MAX, `${bytes} bytes`);
  return `${files.length} files, ${bytes} bytes`;
});

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
  env: { ...process.env, TZ: 'Asia/Kolkata' },
});

/** A tab whose complaints are collected: console, exceptions, CSP, requests to elsewhere. */
async function tab({ width = 1440, theme = 'light' } = {}) {
  const page = await browser.newPage();
  tabs.push(page);
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: theme }]);
  await page.evaluateOnNewDocument(() => {
    addEventListener('securitypolicyviolation', (event) =>
      console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
  });
  page.on('console', (message) => {
    if (['error', 'warn'].includes(message.type())) complaints.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`exception: ${error.message}`));
  page.on('request', (request) => {
    const to = new URL(request.url());
    if (to.origin !== url.origin && to.protocol !== 'data:' && to.protocol !== 'blob:') {
      complaints.push(`request to ${request.url()}`);
    }
  });
  return page;
}

async function open(page, search = '') {
  await page.goto(new URL(search, url), { waitUntil: 'load' });
  await settled(page);
}

const settled = (page) => page.waitForFunction(() => {
  const panels = [...document.querySelectorAll('.panel[data-state]')];
  return panels.length && panels.every(({ dataset }) => dataset.state !== 'loading');
}, { timeout: WAIT_MS });

const states = (page) => page.$$eval('.panel[data-state]', (panels) =>
  Object.fromEntries(panels.map(({ id, dataset }) => [id, dataset.state])));

const ask = async (path) => (await fetch(new URL(`api/v1/${path}`, url))).json();

const main = await tab();
tabs.pop();
await open(main);

await check('every panel answers, and those with data are filled', async () => {
  const found = await states(main);
  for (const id of PANELS) assert(['ready', 'empty'].includes(found[id]), `${id} is ${found[id]}`);
  for (const id of FILLED) assert.equal(found[id], 'ready', `${id} is ${found[id]}`);
  const empty = await main.$$eval('.words.empty', (all) =>
    all.filter((one) => one.checkVisibility()).map((one) => one.textContent));
  assert(empty.every((words) => words.trim().length > 3), 'an empty panel says nothing');
  return empty.length ? `empty: ${empty.join(' | ')}` : 'none is empty';
});

await check('the status strip says how things are', async () => {
  await main.waitForFunction(() => document.querySelectorAll('#status dd').length >= 5,
    { timeout: WAIT_MS });
  return main.$eval('#banner', (banner) => banner.textContent);
});

for (const id of PANELS) {
  await check(`${id}: every tab shows something, SQL is the server's, CSV is CSV`, async () => {
    const keys = await main.$$eval(`#${id} [role="tab"]`, (tabs) => tabs.map((one) => one.id));
    assert(keys.length >= 2, 'too few tabs');
    for (const key of keys) {
      await main.$eval(`#${key}`, (one) => one.click());
      await main.waitForFunction((key) =>
        document.getElementById(key).getAttribute('aria-selected') === 'true', {}, key);
      const filled = await main.$eval(`#${id}-view`, (view) =>
        view.textContent.trim().length + view.querySelectorAll('canvas').length);
      assert(filled, `nothing under ${key}`);
    }
    const sql = await main.$eval(`#${id}-view pre`, (pre) => pre.textContent);
    const href = await main.$eval(`#${id} .csv`, (link) => link.getAttribute('href'));
    const path = href.replace('api/v1/', '');
    const body = await ask(path.replace(/([?&])format=csv$/, '').replace(/\?$/, ''));
    // The newest block may be in the text, and moves on.
    assert.equal(sql.replace(/\d+/g, '0'), body.sql.replace(/\d+/g, '0'));
    const csv = await fetch(new URL(href, url));
    assert.equal(csv.status, 200);
    assert.match(csv.headers.get('content-type'), /^text\/csv/);
    assert.equal((await csv.text()).split(/\r?\n/)[0].replaceAll('"', ''),
      body.columns.map(({ name }) => name).join());
  });
}

await check('back and forward restore the tab', async () => {
  await open(main);
  await main.click('#holders-tab-chart');
  await main.waitForFunction(() => location.search.includes('holders.view=chart'));
  const selected = (key, value) => main.waitForFunction((key, value) =>
    document.getElementById(key).getAttribute('aria-selected') === value, {}, key, value);
  await main.goBack();
  await selected('holders-tab-table', 'true');
  await main.goForward();
  await selected('holders-tab-chart', 'true');
  await main.goBack();
});

await check('amounts keep every digit', async () => {
  await open(main, '?digits=all');
  const body = await ask('panels/whales?asset=ETH&limit=50');
  const at = (name) => body.columns.findIndex((column) => column.name === name);
  const row = body.rows.find((row) => (row[at('balance_text')] ?? row[at('balance')]).length > 17);
  assert(row, 'no balance above 2^53');
  const digits = row[at('balance')] ?? row[at('balance_text')];
  const texts = await main.$$eval(`#holders tr:has(a[title="${row[at('address')]}"]) data`,
    (all) => all.map(({ value }) => value));
  const wei = texts.map((text) => {
    const [whole, fraction = ''] = text.split('.');
    return String(BigInt(whole + fraction.padEnd(18, '0')));
  });
  // The chain moves on between the two questions: the length must agree, and usually the digits.
  assert(wei.includes(digits) || wei[0].length === digits.length, `${wei} is not ${digits}`);
  return `${digits.length} digits`;
});

if (process.env.SPYHOP_PAGE_TOKEN) {
  await check('free SQL answers, every digit of it', async () => {
    const page = await tab();
    await open(page);
    await page.waitForSelector('#sql-token', { visible: true, timeout: WAIT_MS });
    await page.type('#sql-token', process.env.SPYHOP_PAGE_TOKEN);
    await page.click('#sql button.main');
    await page.waitForSelector('#sql tbody tr', { timeout: WAIT_MS });
    await page.$eval('#sql-text', (text) => (text.value = 'SELECT 1 AS one, 9007199254740993 AS n'));
    await page.keyboard.press('Tab');
    await page.focus('#sql-text');
    await page.keyboard.down('Control');
    await page.keyboard.press('Enter');
    await page.keyboard.up('Control');
    await page.waitForFunction(() =>
      document.querySelector('#sql tbody')?.textContent === '19007199254740993',
    { timeout: WAIT_MS });
  });
}

/** What the transfers name: an address, a block and a transaction to look at. */
const row = await (async () => {
  const body = await ask('panels/large_transfers?asset=ETH&limit=1');
  return Object.fromEntries(body.columns.map(({ name }, at) => [name, body.rows[0][at]]));
})();
const pages = {
  main: '', address: `?address=${row.to_address}`, block: `?block=${row.block_number}`,
  transaction: `?transaction=${row.transaction_hash}`, search: '?q=e',
};

for (const [name, search] of Object.entries(pages)) {
  for (const width of [1440, 390]) {
    for (const theme of ['light', 'dark']) {
      await check(`${name} at ${width} px, ${theme}: filled, fits, accessible`, async () => {
        const page = await tab({ width, theme });
        if (name === 'search') {
          await page.goto(new URL(search, url));
          await page.waitForSelector('main tbody tr', { timeout: WAIT_MS });
        } else {
          await open(page, search);
          const bad = Object.entries(await states(page))
            .filter(([, state]) => !['ready', 'empty'].includes(state));
          assert.deepEqual(bad, []);
        }
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert(wide <= width, `the page is ${wide} px wide`);
        const found = await page.evaluate(`${axe}; axe.run(document)`);
        const serious = found.violations.filter(({ impact }) =>
          impact === 'serious' || impact === 'critical');
        assert.deepEqual(serious.map(({ id, nodes }) =>
          `${id}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 160)).join(' | ')}`), []);
        if (screenshots) {
          const path = join(screenshots, `${name}-${width}-${theme}.png`);
          await page.screenshot({ path, fullPage: true });
        }
        const minor = found.violations.map(({ id, impact }) => `${id} (${impact})`);
        return minor.join(', ') || 'axe finds nothing';
      });
    }
  }
}

await check('an address has the times it was seen, and its older movements follow', async () => {
  const page = await tab();
  await open(page, pages.address);
  const times = await page.$$eval('#summary time', (all) => all.map(({ dateTime }) => dateTime));
  assert.equal(times.length, 2, `times: ${times}`);
  const newest = await ask(`panels/address_movements?address=${row.to_address}&limit=100`);
  if (!newest.next) return 'it has too few movements for two pages';
  await page.waitForSelector('#movements nav.pages a', { timeout: WAIT_MS });
  await page.$eval('#movements nav.pages a', (older) => older.click());
  await page.waitForFunction(() => location.search.includes('movements.before'));
  await settled(page);
  const before = new URL(page.url()).searchParams.get('movements.before');
  const body = await ask(
    `panels/address_movements?address=${row.to_address}&limit=100&before=${before}`);
  const shown = await page.$$eval('#movements tbody tr', (rows) => rows.length);
  assert.equal(shown, body.rows.length);
  const at = (name) => body.columns.findIndex((column) => column.name === name);
  assert(body.rows[0][at('block_number')] <= Number(before.split('-')[0]), before);
});

await check('a large transfer names the hash of its block', async () => {
  const page = await tab();
  await open(page);
  const title = await page.$eval('#transfers tbody tr:not(.undone) a.number', (one) => one.title);
  assert.match(title, /^0x[0-9a-f]{64}$/);
});

await check('the keyboard reaches everything, in order, and shows where it is', async () => {
  const page = await tab();
  await open(page);
  const stops = [];
  for (let count = 0; count < 400; count += 1) {
    await page.keyboard.press('Tab');
    const stop = await page.evaluate(() => {
      const active = document.activeElement;
      if (!active || active === document.body) return null;
      const { outlineStyle, outlineWidth, top } = getComputedStyle(active);
      return {
        what: active.id || active.getAttribute('aria-label') || active.className || active.tagName,
        tag: active.tagName, role: active.getAttribute('role'), top,
        shown: outlineStyle !== 'none' && outlineWidth !== '0px',
      };
    });
    if (!stop) break;
    stops.push(stop);
  }
  const order = (what) => stops.findIndex((stop) => stop.what === what);
  assert.equal(stops[0].what, 'skip');
  assert(order('q') > 0 && order('q') < 4, `search is stop ${order('q')}`);
  const tabs = PANELS.map((id) => stops.findIndex((stop) =>
    stop.role === 'tab' && stop.what.startsWith(`${id}-tab-`)));
  assert(tabs.every((at) => at > 0), `a panel's tabs are not reached: ${tabs}`);
  assert.deepEqual([...tabs].sort((a, b) => a - b), tabs, 'tabs are out of order');
  assert(stops.some(({ tag }) => tag === 'A'), 'no link is reached');
  const unseen = stops.filter(({ shown }) => !shown).map(({ what }) => what);
  assert.deepEqual(unseen, [], 'focus is not visible');
  return `${stops.length} stops`;
});

await check('the focus stays where it is when newer data comes', async () => {
  const page = await tab();
  await open(page);
  await page.focus('#gas .controls button:last-child');
  const [before, after] = await page.evaluate(async () => {
    const before = document.activeElement;
    before.dataset.old = 'yes';
    const replaced = () => !document.querySelector('#gas [data-old]');
    const { promise, resolve } = Promise.withResolvers();
    new MutationObserver(() => replaced() && resolve()).observe(document.querySelector('#gas'),
      { childList: true, subtree: true });
    await Promise.race([promise, new Promise((late) => setTimeout(late, 40_000))]);
    return [before.textContent, replaced() && document.activeElement.textContent];
  });
  assert.equal(after, before);
  return after;
});

await check('arrow keys move between tabs, Enter follows a link, / searches, the skip link skips',
  async () => {
    const page = await tab();
    await open(page);
    await page.focus('#holders [role="tab"][aria-selected="true"]');
    await page.keyboard.press('ArrowRight');
    await page.waitForFunction(() => document.activeElement.id === 'holders-tab-sql' &&
      document.activeElement.getAttribute('aria-selected') === 'true');
    await page.keyboard.press('Home');
    await page.waitForFunction(() => document.activeElement.id === 'holders-tab-chart');
    await page.focus('#blocks tbody a');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() =>
      /^Block [\d,]+$/.test(document.querySelector('h1').textContent), { timeout: WAIT_MS });
    await page.keyboard.press('/');
    await page.keyboard.type('1');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelector('h1').textContent === 'Block 1',
      { timeout: WAIT_MS });
    await open(page);
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement.id === 'main');
    });

await check('the theme is kept', async () => {
  const page = await tab({ theme: 'light' });
  await open(page);
  await page.click('#theme');
  const back = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await open(page);
  assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), back);
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
  await page.evaluate(() => localStorage.clear());
});

await check('nothing moves for those who ask for that', async () => {
  const page = await tab();
  await page.emulateMediaFeatures([{ name: 'prefers-reduced-motion', value: 'reduce' }]);
  await open(page);
  const moving = await page.evaluate(() => document.getAnimations().length);
  assert.equal(moving, 0);
});

await check('the headers forbid what the page does not need', async () => {
  const { headers } = await fetch(url);
  assert.match(headers.get('content-security-policy') ?? '', /^default-src 'none'/);
  assert.doesNotMatch(headers.get('content-security-policy'), /unsafe/);
  assert.equal(headers.get('x-content-type-options'), 'nosniff');
});

await check('no console error, no exception, no CSP violation, no request to elsewhere', () =>
  assert.deepEqual([...new Set(complaints)], []));

await browser.close();
console.log(failures ? `${failures} checks failed` : 'all checks passed');
process.exit(failures ? 1 : 0);
