/** Charts over time or blocks: uPlot, with a legend and a cursor that the keyboard moves too. */

import uPlot from './uplot/uPlot.esm.js';
import { element } from './dom.js';

const HEIGHT_MIN = 240;
const HEIGHT_MAX = 400;

/** The colour behind a custom property, as a canvas takes it. */
function colour(name) {
  const probe = element('span', { class: `probe-${name}`, hidden: true });
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/**
 * A panel's view: `specOf(data)` is `{ label, x: [numbers], time, xText(x), series: [{ label,
 * values, kind, tone, text(value) }], band: [upper, lower], logarithmic, free }`. `kind` is `line`, `step`,
 * `bars` or `points`; `free` is an axis that need not begin at 0.
 */
export const chart = (specOf) => (place, data) => {
  const made = charted(place, specOf(data));
  return { update: (next) => made.update(specOf(next)), destroy: made.destroy };
};

function charted(place, spec) {
  let drawn = draw(place, spec);
  let current = spec;
  const size = new ResizeObserver(() => {
    const { width, height } = room(place, drawn.plot.root.parentElement);
    if (width > 0 && (width !== drawn.plot.width || height !== drawn.plot.height)) {
      drawn.plot.setSize({ width, height });
    }
  });
  size.observe(place);
  const redraw = () => {
    drawn.plot.destroy();
    place.replaceChildren();
    drawn = draw(place, current);
  };
  addEventListener('spyhop:theme', redraw);
  return {
    update(next) {
      const same = shape(next) === shape(current);
      current = next;
      if (!same) return redraw();
      drawn.follow(next);
      drawn.plot.setData([next.x, ...next.series.map(({ values }) => values)]);
    },
    destroy() {
      size.disconnect();
      removeEventListener('spyhop:theme', redraw);
      drawn.plot.destroy();
    },
  };
}

/** The size of what is left of the view below the legend. */
function room(place, canvas) {
  const left = place.clientHeight - canvas.offsetTop - 6;
  return {
    width: Math.floor(canvas.clientWidth),
    height: Math.min(HEIGHT_MAX, Math.max(HEIGHT_MIN, Math.floor(left))),
  };
}

const shape = ({ label, series, logarithmic }) =>
  JSON.stringify([label, logarithmic, series.map((one) => [one.label, one.kind, one.tone])]);

function draw(place, spec) {
  let now = spec;
  const values = spec.series.map(() => element('span', { class: 'value' }));
  const at = element('span', { class: 'at' });
  const legend = element('div', { class: 'legend' },
    spec.series.map(({ label, tone }, index) => element('span', {},
      element('span', { class: `key key-${tone}`, 'aria-hidden': 'true' }), `${label} `,
      values[index])),
    at);
  const canvas = element('div', {
    class: 'canvas', tabindex: '0', role: 'group', 'aria-roledescription': 'chart',
    'aria-label': `${spec.label}. Left and right move through the values.`,
  });
  const status = element('span', { class: 'hidden', role: 'status' });
  place.append(legend, canvas, status);
  const read = (plot) => {
    const index = plot.cursor.idx ?? now.x.length - 1;
    at.textContent = now.x.length ? now.xText(now.x[index]) : '';
    now.series.forEach((one, series) => {
      const value = one.values[index];
      values[series].textContent = value === null || value === undefined ? '—' : one.text(value);
    });
  };
  const plot = new uPlot(
    options(() => now, room(place, canvas), read),
    [spec.x, ...spec.series.map((one) => one.values)], canvas);
  read(plot);
  canvas.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
    if (!step || !now.x.length) return;
    event.preventDefault();
    const last = now.x.length - 1;
    const index = Math.min(last, Math.max(0, (plot.cursor.idx ?? last) + step));
    plot.setCursor({ left: plot.valToPos(now.x[index], 'x'), top: plot.over.clientHeight / 2 });
    status.textContent = legend.textContent;
  });
  return { plot, follow: (next) => (now = next) };
}

function options(now, size, read) {
  const spec = now();
  const text = colour('muted');
  const line = colour('line');
  const font = '12px system-ui, sans-serif';
  const axis = { stroke: text, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  const paths = {
    bars: uPlot.paths.bars({ size: [0.7, 40] }),
    step: uPlot.paths.stepped({ align: 1 }),
    points: () => null,
  };
  return {
    ...size, legend: { show: false }, padding: [8, 32, 0, 4],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC'),
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { time: Boolean(spec.time), range: () => padded(now()) },
      y: spec.logarithmic ? { distr: 3 } : { range: (_, min, max) => fromZero(spec, min, max) },
    },
    axes: [
      { ...axis, space: 74, size: 30, values: spec.time ? times : whole },
      { ...axis, size: 68, values: (_, ticks) => ticks.map((tick) =>
        tick === null ? '' : spec.series[0].text(tick, true)) },
    ],
    bands: spec.band ? [{ series: spec.band, fill: colour('band') }] : [],
    series: [{}, ...spec.series.map(({ label, kind, tone }) => ({
      label, stroke: colour(tone), width: kind === 'points' ? 0 : 1.75, paths: paths[kind],
      fill: kind === 'bars' ? colour(tone) : undefined,
      points: kind === 'points'
        ? { show: true, size: 6, fill: colour(tone), stroke: colour(tone) }
        : { show: spec.x.length < 3, size: 5 },
    }))],
    hooks: { setCursor: [read], setData: [read] },
  };
}

const whole = (_, ticks) =>
  ticks.map((tick) => (Number.isInteger(tick) ? tick.toLocaleString('en-US') : ''));

/** UTC: the time of day, but the date at its start; seconds or years where ticks are so close. */
function times(_, ticks, _axis, _space, step) {
  return ticks.map((tick) => {
    const iso = new Date(tick * 1000).toISOString();
    if (step >= 28 * 86400) return iso.slice(0, 7);
    if (step >= 86400 || iso.slice(11, 19) === '00:00:00') return iso.slice(5, 10);
    return iso.slice(11, step < 60 ? 19 : 16);
  });
}

/** The first and last value, with room for half a bar at both ends. */
function padded({ x, time, series }) {
  if (!x.length) return [0, 1];
  const [min, max] = [x[0], x.at(-1)];
  const least = time ? 1800 : 1;
  if (min === max) return [min - least, max + least];
  const bar = series.some(({ kind }) => kind === 'bars');
  const edge = bar ? (max - min) / Math.max(2, 2 * (x.length - 1)) : (max - min) * 0.01;
  return [min - edge, max + edge];
}

function fromZero(spec, min, max) {
  if (min === null) return [0, 1];
  if (spec.free && max > min) return [min - (max - min) * 0.08, max + (max - min) * 0.08];
  const low = Math.min(0, min);
  const high = Math.max(0, max);
  return low === high ? [0, 1] : [low * 1.05, high * 1.05];
}
