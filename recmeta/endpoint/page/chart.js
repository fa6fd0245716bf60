// Charts of what became of the job over time: points with intervals, and bars. Each one can be read
// without seeing it: its title says what is in it, and every mark its value.

import { draw } from "./curve.js";

const WIDTH = 520, HEIGHT = 190, LEFT = 52, RIGHT = 12, TOP = 12, BOTTOM = 30;
const MOST_LABELS = 6;

// A scale from what is to be seen, with round numbers as its marks; whole ones for what is counted.
function scale(values, fromZero, leastStep = 0) {
  let low = Math.min(...values), high = Math.max(...values);
  if (fromZero) low = Math.min(0, low);
  if (high === low) [low, high] = fromZero ? [low, high || 1] : [low - Math.abs(low || 1) * 0.1, high + Math.abs(high || 1) * 0.1];
  const rough = (high - low) / 3, unit = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(leastStep, unit * ([1, 2, 5, 10].find((n) => n * unit >= rough) ?? 10));
  const first = Math.floor(low / step) * step, last = Math.ceil(high / step) * step;
  const marks = [];
  for (let n = 0; first + n * step <= last + step / 2; n += 1) marks.push(first + n * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const name = (v) => (v >= 10000 ? `${Math.round(v / 1000)}k` : v.toFixed(digits));
  return { y: (v) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (v - first) / (last - first)), marks, name };
}

function frame(label, names, { y, marks, name }, x) {
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "chart" });
  svg.append(draw("title", {}, label));
  for (const mark of marks) {
    svg.append(draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(mark), y2: y(mark), class: "grid" }));
    svg.append(draw("text", { x: LEFT - 6, y: y(mark) + 4, class: "axis end" }, name(mark)));
  }
  const every = Math.ceil(names.length / MOST_LABELS);
  names.forEach((text, n) => {
    if ((names.length - 1 - n) % every === 0) {
      const place = names.length > 1 && n === names.length - 1 ? "end" : "middle";
      const at = place === "end" ? Math.min(x(n) + 30, WIDTH) : x(n);
      svg.append(draw("text", { x: at, y: HEIGHT - 8, class: `axis ${place}` }, text));
    }
  });
  return svg;
}

const across = (count) => (n) => LEFT + ((n + 0.5) * (WIDTH - LEFT - RIGHT)) / count;

// Lines through the points of one or more series; a point may have an interval.
// series: [{ name, points: [{ value, low, high } or null] }]
export function lines(label, names, series, { limit = null, fromZero = false } = {}) {
  const found = series.flatMap((one) => one.points).filter((point) => point !== null);
  const ends = found.flatMap((p) => [p.low ?? p.value, p.high ?? p.value, p.value]);
  const made = scale(limit === null ? ends : [...ends, limit], fromZero), x = across(names.length);
  const svg = frame(label, names, made, x);
  if (limit !== null) {
    svg.append(draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: made.y(limit), y2: made.y(limit), class: "limit" }));
  }
  series.forEach((one, place) => {
    const drawn = one.points.map((point, n) => ({ point, n })).filter(({ point }) => point !== null);
    const way = drawn.map(({ point, n }) => `${x(n)},${made.y(point.value)}`).join(" ");
    svg.append(draw("polyline", { points: way, class: `line series-${place}` }));
    for (const { point, n } of drawn) {
      if (point.low !== null && point.low !== undefined && point.high !== null) {
        svg.append(draw("line", { x1: x(n), x2: x(n), y1: made.y(point.low), y2: made.y(point.high), class: "span" }));
      }
      const dot = draw("circle", { cx: x(n), cy: made.y(point.value), r: 4.5, class: `dot series-${place}` });
      dot.append(draw("title", {}, `${names[n]}: ${one.name} ${point.value.toFixed(4)}`));
      svg.append(dot);
    }
  });
  return svg;
}

// Bars on top of one another: [{ name, values }].
export function bars(label, names, stacks) {
  const totals = names.map((_, n) => stacks.reduce((sum, stack) => sum + stack.values[n], 0));
  const made = scale(totals, true, 1), x = across(names.length);
  const svg = frame(label, names, made, x);
  const wide = Math.min(48, (0.7 * (WIDTH - LEFT - RIGHT)) / names.length);
  names.forEach((text, n) => {
    let below = 0;
    stacks.forEach((stack, place) => {
      if (!stack.values[n]) return;
      const top = made.y(below + stack.values[n]);
      const bar = draw("rect", { x: x(n) - wide / 2, y: top, width: wide, height: Math.max(1, made.y(below) - top), rx: 2, class: `block series-${place}` });
      bar.append(draw("title", {}, `${text}: ${stack.values[n].toLocaleString("en")} ${stack.name}`));
      svg.append(bar);
      below += stack.values[n];
    });
  });
  return svg;
}
