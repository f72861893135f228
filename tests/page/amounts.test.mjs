// Amounts, untrusted text and event streams of the page. Run by `node --test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  amountOf, approximate, exact, gasPrice, grouped, parse, short, signed,
} from '../../src/serve/page/amounts.js';
import { parser } from '../../src/serve/page/events.js';
import { shortened, shown } from '../../src/serve/page/text.js';

const check = (name, f, cases) => test(name, () => {
  for (const [input, expected] of cases) {
    assert.deepEqual(f(...input), expected, `${name}: ${input.map(String).join(', ')}`);
  }
});

check('cells become integers without losing a digit', parse, [
  [['9007199254740993'], 9007199254740993n],
  [['-12'], -12n],
  [[0], 0n],
  [[9007199254740991], 9007199254740991n],
  [[9007199254740992], null],
  [[1.5], null],
  [['1.5'], null],
  [['0x10'], null],
  [[''], null],
  [[null], null],
  [[undefined], null],
]);

check('an amount of over 38 digits is in the text column', amountOf, [
  [[{ balance: null, balance_text: '1' + '0'.repeat(77) }, 'balance'], 10n ** 77n],
  [[{ balance: '7', balance_text: null }, 'balance'], 7n],
  [[{ balance: null, balance_text: null }, 'balance'], null],
  [[{}, 'balance'], null],
]);

check('every digit is shown', exact, [
  [[1500n, 3], '1.5'],
  [[0n, 18], '0'],
  [[1n, 18], '0.000000000000000001'],
  [[-1n, 18], '-0.000000000000000001'],
  [[9007199254740993n, 18], '0.009007199254740993'],
  [[9007199254740993n, 0], '9007199254740993'],
  [[10n ** 77n + 1n, 18], `1${'0'.repeat(59)}.000000000000000001`],
  [[123n, 0], '123'],
]);

check('amounts are rounded for reading', short, [
  [[0n, 18], '0'],
  [[1n, 18], '<0.000001'],
  [[-1n, 18], '−<0.000001'],
  [[123000000000000n, 18], '0.000123'],
  [[10n ** 18n, 18], '1.00'],
  [[1234567890000000000000n, 18], '1,234.57'],
  [[999999999999999999n, 18], '1'],
  [[-1234567890000000000000n, 18], '−1,234.57'],
  [[9007199254740993n, 0], '9.0072 × 10¹⁵'],
  [[123456789n, 0], '123,456,789'],
  [[5n, 1], '0.5'],
  [[15n, 1], '1.5'],
  [[2n ** 256n - 1n, 18], '1.1579 × 10⁵⁹'],
  [[999999n * 10n ** 12n, 0], '1.0000 × 10¹⁸'],
  [[1n, 255], '<0.000001'],
]);

check('a change has its sign', signed, [
  [[10n ** 18n, 18], '+1.00'],
  [[-(10n ** 18n), 18], '−1.00'],
  [[0n, 18], '0'],
  [[1n, 18], '<0.000001'],
]);

check('digits are grouped', grouped, [
  [['1'], '1'], [[1234], '1,234'], [['123456'], '123,456'], [[9007199254740993n],
    '9,007,199,254,740,993'],
]);

check('gas has a price in gwei, or in wei if it is little', gasPrice, [
  [[7n], ['7', 'wei']],
  [[0n], ['0', 'gwei']],
  [[1500000000n], ['1.50', 'gwei']],
  [[12345n], ['0.000012', 'gwei']],
]);

test('charts get near numbers, and nothing for what is not known', () => {
  assert.equal(approximate(1500000000000000000n, 18), 1.5);
  assert.equal(approximate(null, 18), null);
});

test('a parsed amount comes back digit by digit, whatever its length', () => {
  for (let digits = 1; digits <= 78; digits += 1) {
    const text = '9876543210'.repeat(8).slice(0, digits);
    for (const decimals of [0, 1, 6, 18, 77]) {
      const whole = exact(parse(text), decimals);
      const [left, right = ''] = whole.split('.');
      assert.equal(BigInt(left + right.padEnd(decimals, '0')), BigInt(text), `${text} ${decimals}`);
    }
  }
});

check('what is invisible or turns text around is written out', shown, [
  [['plain ünïcode 漢字 🐋'], 'plain ünïcode 漢字 🐋'],
  [['a\u202eb'], 'a\\u{202e}b'],
  [['\u0007\n\t'], '\\u{7}\\n\\t'],
  [['\u200d\ufeff\u2066'], '\\u{200d}\\u{feff}\\u{2066}'],
  [['\u{e0041}'], '\\u{e0041}'],
  [['\ud800'], '\\u{d800}'],
  [['<img src=x>'], '<img src=x>'],
]);

check('hashes are shortened', shortened, [
  [[`0x${'ab'.repeat(20)}`], '0xabab…abab'], [['0x1234'], '0x1234'],
]);

test('events are read however the stream is cut', () => {
  const stream = ': hello\n\nevent: published\nid: 7-0xab\ndata: {"block":\ndata: 7}\n\n' +
    'event: status\r\ndata: {}\r\n\r\ndata: not json\n\nevent: lost\n\n';
  const expected = [
    { name: 'published', id: '7-0xab', data: { block: 7 } },
    { name: 'status', id: null, data: {} },
    { name: 'message', id: null, data: null },
  ];
  for (let size = 1; size <= stream.length; size += 1) {
    const heard = [];
    const parse = parser((event) => heard.push(event));
    for (let at = 0; at < stream.length; at += size) parse(stream.slice(at, at + size));
    assert.deepEqual(heard, expected, `pieces of ${size}`);
  }
});
