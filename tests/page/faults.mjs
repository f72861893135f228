// Injects faults while the page is open in a real Chromium: faults.mjs SPYHOP GETH
//
// A developer chain with traffic, a writer and a server: a reorganisation must strike transfers
// through, and whatever is stopped must be named, and forgotten once it runs again.
// `puppeteer-core` is looked for as in check.mjs.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const [spyhop, geth] = process.argv.slice(2).map((path) => resolve(path));
assert(geth, 'usage: faults.mjs SPYHOP GETH');
const require = createRequire(resolve(process.env.SPYHOP_PAGE_MODULES ?? '.', 'from'));
const puppeteer = (await import(require.resolve('puppeteer-core'))).default;

const WAIT_MS = 90_000;
const work = mkdtempSync(join(tmpdir(), 'spyhop-page-'));
const ipc = join(work, 'geth.ipc');
const data = join(work, 'data');
const traffic = fileURLToPath(new URL('../../docker/demo/traffic.py', import.meta.url));
const port = await freePort();
const url = `http://127.0.0.1:${port}/`;
const children = new Map();

function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  return new Promise((done) => probe.once('listening', () => {
    const { port: found } = probe.address();
    probe.close(() => done(found));
  }));
}

const COMMANDS = {
  node: [geth, '--dev', '--dev.period', '2', '--datadir', join(work, 'geth'), '--ipcpath', ipc,
    '--nodiscover', '--port', '0', '--authrpc.port', '0', '--verbosity', '1'],
  traffic: ['python3', traffic, ipc],
  writer: [spyhop, 'watch', '--ipc', ipc, '--data', data, '--from', 'earliest'],
  server: [spyhop, 'serve', '--data', data, '--http', String(port)],
};

function start(name) {
  const log = openSync(join(work, `${name}.log`), 'a');
  const [command, ...rest] = COMMANDS[name];
  children.set(name, spawn(command, rest, { stdio: ['ignore', log, log] }));
}

async function stop(name, signal) {
  const child = children.get(name);
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once('exit', done));
  child.kill(signal);
  await ended;
}

/** Waits until `found` gives something, and returns it. */
async function wait(what, found) {
  const started = performance.now();
  for (;;) {
    const value = await found();
    if (value) return [value, ((performance.now() - started) / 1000).toFixed(1)];
    const late = performance.now() - started > WAIT_MS;
    assert(!late, `waited ${WAIT_MS / 1000} s for ${what}`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

/** Asks the node. */
function ask(method, ...params) {
  return new Promise((done, failed) => {
    let text = '';
    const stream = connect(ipc, () => stream.write(JSON.stringify({
      jsonrpc: '2.0', id: 1, method, params })));
    stream.on('error', failed);
    stream.on('data', (bytes) => {
      text += bytes;
      if (!text.endsWith('\n')) return;
      stream.destroy();
      const { error, result } = JSON.parse(text);
      if (error) failed(new Error(`${method}: ${error.message}`));
      else done(result);
    });
  });
}

const banner = (page) => page.$eval('#banner', ({ textContent }) => textContent);
const follows = async (page) => {
  const words = await banner(page);
  return words.startsWith('Following the node') && words;
};

async function fault(page, name, inject, said, mend) {
  await inject();
  const [words, after] = await wait(`"${said}" after ${name}`, async () => {
    const now = await banner(page);
    return now.includes(said) && now;
  });
  await mend();
  const [, recovered] = await wait(`the end of ${name}`, () => follows(page));
  console.log(`${name}: after ${after} s "${words}"; recovered ${recovered} s after the mend`);
}

async function reorganise(page) {
  const head = Number(await ask('eth_blockNumber'));
  await stop('traffic', 'SIGTERM');
  await ask('debug_setHead', `0x${(head - 3).toString(16)}`);
  start('traffic');
  const [words, after] = await wait('a transfer that is struck through', () =>
    page.$eval('tr.undone .reason', ({ textContent }) => textContent).catch(() => null));
  assert(words.startsWith('Undone by a reorganisation'), words);
  const lines = await page.$$eval('tr.undone del a', (links) =>
    links.map((link) => getComputedStyle(link).textDecorationLine));
  assert(lines.length > 0 && lines.every((line) => line === 'line-through'), lines.join());
  const count = await page.$$eval('tr.undone', (rows) => rows.length);
  console.log(`a reorganisation: after ${after} s ${count} rows struck through, "${words}"`);
}

let browser;
try {
  start('node');
  await wait('the node', () => existsSync(ipc));
  start('traffic');
  start('writer');
  await wait('the data directory', () => existsSync(data));
  start('server');
  browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu'],
  });
  const page = await browser.newPage();
  await wait('the server', () => page.goto(url).catch(() => null));
  await wait('transfers of the newest blocks', () => page.$('#transfers tbody tr'));
  await wait('the node to be followed', () => follows(page));
  // So that there are transfers in each of the last blocks.
  await wait('blocks', async () => Number(await ask('eth_blockNumber')) >= 10);
  await reorganise(page);
  await wait('the node to be followed', () => follows(page));
  await fault(page, 'the writer killed', () => stop('writer', 'SIGKILL'),
    'the writer is not running', () => start('writer'));
  await fault(page, 'the node stopped', () => stop('node', 'SIGTERM'),
    'Waiting for geth', () => start('node'));
  await fault(page, 'the server killed', () => stop('server', 'SIGKILL'),
    'The server does not answer', () => start('server'));
  console.log('all faults were said, and ended by themselves');
} catch (error) {
  for (const name of children.keys()) {
    console.log(`-- ${name}\n${readFileSync(join(work, `${name}.log`), 'utf8').slice(-2000)}`);
  }
  throw error;
} finally {
  await browser?.close();
  for (const name of [...children.keys()].reverse()) await stop(name, 'SIGKILL');
  rmSync(work, { recursive: true, force: true });
}
